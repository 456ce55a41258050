/** Noise schedules and timesteps of variance-preserving diffusion: `niwaki_runtime.process.schedules`. */

import { CallError, validNames } from "../errors.js";

const range = (n) => Array.from({ length: n }, (_, i) => i);

/** Python rounds halves to the even neighbour. */
export function roundHalfEven(value) {
  const low = Math.floor(value), rest = value - low;
  if (rest !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

const linear = (steps, first = 1e-4, last = 0.02) =>
  range(steps).map((i) => first + ((last - first) * i) / Math.max(steps - 1, 1));

/** β of which ᾱ(u) is a function of the share u of the steps; β at most 0.999. */
const ofBars = (steps, bar) => range(steps).map((i) => Math.min(1.0 - bar((i + 1) / steps) / bar(i / steps), 0.999));

const sigmoid = (v) => 1.0 / (1.0 + Math.exp(-v));

/** β of every timestep: Ho et al. 2020; Rombach et al. 2022; Nichol & Dhariwal 2021, Eq. 17; Jabri et al. 2022. */
const SCHEDULES = {
  linear,
  scaled_linear: (steps, first = 0.00085, last = 0.012) =>
    linear(steps, Math.sqrt(first), Math.sqrt(last)).map((root) => root ** 2),
  cosine: (steps) => ofBars(steps, (u) => Math.cos((((u + 0.008) / 1.008) * Math.PI) / 2) ** 2),
  sigmoid: (steps) =>
    ofBars(steps, (u) => (sigmoid(3.0) - sigmoid(6.0 * u - 3.0)) / (sigmoid(3.0) - sigmoid(-3.0))),
};

/**
 * ᾱ of every timestep: the share of signal left after each step of the forward process.
 *
 * betas: of every step, instead of the schedule's; zeroTerminalSnr: √ᾱ moved and scaled so that `terminal` is
 * left at the last step (Lin, Liu, Li & Yang 2023, Algorithm 1)
 */
export function alphaBars({ schedule, train_steps: steps, betas, zero_terminal_snr: zeroTerminalSnr, terminal }) {
  let bars = [], product = 1.0;
  for (const beta of betas.length ? betas : betasOf(schedule, steps)) {
    product *= 1.0 - beta;
    bars.push(product);
  }
  if (zeroTerminalSnr) {
    const first = Math.sqrt(bars[0]), last = Math.sqrt(bars.at(-1));
    bars = bars.map((bar) => (((Math.sqrt(bar) - last) * first) / (first - last)) ** 2);
    bars[bars.length - 1] = terminal;
  }
  return bars;
}

/** A name, and perhaps its range of β: `scaled_linear(0.00085, 0.012)`. */
function betasOf(schedule, steps) {
  const [, name, numbers] = /^(\w+)(?:\((.*)\))?$/.exec(schedule) ?? [null, schedule];
  if (!(name in SCHEDULES)) {
    throw new CallError(`there is no noise schedule '${name}'; ${validNames(Object.keys(SCHEDULES))}`);
  }
  return SCHEDULES[name](steps, ...(numbers ? numbers.split(",").map(Number) : []));
}

const down = (numbers) => numbers.reverse();
const SPACINGS = {
  leading: (train, steps) => down(range(steps).map((i) => i * Math.floor(train / steps))),
  leading_open: (train, steps) => down(range(steps).map((i) => (i + 1) * Math.floor(train / (steps + 1)))),
  linspace: (train, steps) => down(range(steps).map((i) => roundHalfEven((i * (train - 1)) / Math.max(steps - 1, 1)))),
  linspace_exact: (train, steps) => down(range(steps).map((i) => (i * (train - 1)) / Math.max(steps - 1, 1))),
  linspace_open: (train, steps) => down(range(steps).map((i) => roundHalfEven(((i + 1) * (train - 1)) / steps))),
  trailing: (train, steps) => range(steps).map((i) => roundHalfEven(train - (i * train) / steps) - 1),
};

/** The `steps` timesteps that are visited, from the noisiest down, each `offset` later. */
export function timesteps(spacing, train, steps, offset) {
  if (!(spacing in SPACINGS)) {
    throw new CallError(`there is no timestep spacing '${spacing}'; ${validNames(Object.keys(SPACINGS))}`);
  }
  if (!(steps >= 1 && steps <= train)) {
    throw new CallError(`a model trained on ${train} timesteps cannot be sampled in ${steps} steps`);
  }
  const times = SPACINGS[spacing](train, steps).map((t) => t + offset);
  if (times.at(-1) < 0 || times[0] >= train) {
    throw new CallError(`${steps} steps of ${train} cannot start ${offset} later: ${times[0]} was never trained`);
  }
  return times;
}

/** (least, greatest, steps) → σ/α of the visited times, from the noisiest down. */
export const RATIOS = {
  /** Even in the seventh root (Karras et al. 2022, Equation 5). */
  karras: (low, high, steps) => {
    const first = high ** (1 / 7), last = low ** (1 / 7);
    return range(steps).map((i) => (first + (i / Math.max(steps - 1, 1)) * (last - first)) ** 7);
  },
  /** Even in the logarithm. */
  exponential: (low, high, steps) => range(steps).map((i) => high * (low / high) ** (i / Math.max(steps - 1, 1))),
};

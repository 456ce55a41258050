/** What a denoiser says when it is led: by what it says without conditions, under others, or by a weaker one. */

import { Tensor } from "../tensor.js";

/**
 * async (x, t, weights, further inputs) → the network's outputs, the first of them guided:
 * out(∅) + Σ wᵢ (out(cᵢ) − out(∅)) (Ho & Salimans 2022, Equation 6; Liu et al. 2022, Section 4), or led by the
 * sampler's `guide` in the place of out(∅) (Karras et al. 2024). What counts 0 times is not asked. Conditions are
 * encoded here, once.
 */
export async function guidedOutput(sampler, graphs, noise, conditions) {
  const graph = graphs[sampler.graph], guide = sampler.guide ? graphs[sampler.guide] : graph;
  const n = noise.n;

  async function encode(values, names = sampler.conditions) {
    const found = [];
    for (const [i, kind] of sampler.conditions.entries()) {
      const encoder = sampler.encoders[kind], value = values[names[i]];
      found.push(...(encoder === undefined ? [value] : await graphs[encoder](value)));
    }
    return found;
  }

  const inputs = [await encode(conditions)];
  for (const names of sampler.also) inputs.push(await encode(conditions, names));
  if (sampler.guide || sampler.onlyAsked) {
    inputs.push(inputs[0]);
  } else {
    // What has no null value (a picture to enlarge, say) is asked every time.
    const empty = Object.entries(conditions).map(([name, value]) => [name, blank(value, sampler.null[name])]);
    inputs.push(await encode(Object.fromEntries(empty)));
  }
  const last = inputs.length - 1;
  const together = (chosen) => inputs[0].map((_, i) => Tensor.concat(chosen.map((k) => inputs[k][i])));

  return async (x, t, weights, ...more) => {
    const shares = [...weights, freeShare(weights)];
    const chosen = shares.flatMap((share, k) => (share ? [k] : []));
    const said = {};
    if (chosen.length > 1 && sampler.guidance_batched && !sampler.guide) {
      const m = chosen.length, repeat = (value) => Tensor.concat(chosen.map(() => value));
      const clock = Tensor.full([m * n], t);
      const made = await graph(repeat(x), clock, ...together(chosen), ...more.map(repeat));
      chosen.forEach((k, i) => (said[k] = made.map((out) => out.rows(i * n, n))));
    } else {
      for (const k of chosen) {
        said[k] = await (k === last ? guide : graph)(x, Tensor.full([n], t), ...inputs[k], ...more);
      }
    }
    const [out, ...rest] = said[chosen[0]];
    if (chosen.length === 1 && shares[chosen[0]] === 1.0) return [out, ...rest];
    let led;
    if (last in said) {
      const [free] = said[last];
      led = free;
      for (const k of chosen.slice(0, -1)) led = led.plus(said[k][0].minus(free).times(weights[k]));
    } else {
      led = out.times(weights[chosen[0]]);
      for (const k of chosen.slice(1)) led = led.plus(said[k][0].times(weights[k]));
    }
    return [led, ...rest];
  };
}

const blank = (value, nothing) =>
  nothing === undefined ? value : Tensor.full(value.shape, BigInt(nothing), BigInt64Array);

/** How often out(∅) counts beside conditions of these weights; 0 where they add up to 1, but for rounding. */
export function freeShare(weights) {
  const share = 1.0 - weights.reduce((sum, weight) => sum + weight, 0.0);
  return Math.abs(share) < 1e-12 ? 0.0 : share;
}

/** x₀ within ±bound; where `share` is above 0 by dynamic thresholding (Saharia et al. 2022, Section 2.3). */
export function limited(x0, bound, share) {
  if (share <= 0.0) return x0.clip(-bound, bound);
  const size = x0.size, out = new Float32Array(x0.data.length), round = Math.fround;
  for (let row = 0; row < x0.shape[0]; row++) {
    const values = x0.data.subarray(row * size, (row + 1) * size), sorted = values.map(Math.abs).sort();
    const place = share * (size - 1), low = Math.floor(place), high = Math.min(low + 1, size - 1);
    const between = round(round(place - low) * round(sorted[high] - sorted[low]));
    const found = Math.max(round(sorted[low] + between), round(bound)), scale = round(round(bound) / found);
    values.forEach((value, i) => (out[row * size + i] = round(Math.min(Math.max(value, -found), found)) * scale));
  }
  return new Tensor(out, x0.shape);
}

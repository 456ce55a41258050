/** The variance-preserving path of DDPM with discrete training timesteps. */

import { CallError, validNames } from "../errors.js";
import { Process, registerProcess } from "./process.js";
import { alphaBars, RATIOS, roundHalfEven, timesteps } from "./schedules.js";

const FAINTEST = 2 ** -24; // ᾱ that stands for 0 where σ/α has to have a value
const BARS = new WeakMap(); // a thousand numbers, asked for at every step

/** α_t² = ∏ (1 − β) and α² + σ² = 1 (Ho, Jain & Abbeel 2020, Equation 4); t is a training timestep. */
export class VariancePreserving extends Process {
  static kind = "variance_preserving";
  static predictions = ["epsilon", "x0", "v", "velocity"];
  static preservesVariance = true;
  static fields = {
    schedule: "cosine", train_steps: 1000, spacing: "trailing", offset: 0, last: "clean", zero_terminal_snr: false,
    terminal: 0.0, betas: [], ratios: "", least_ratio: 0.0, greatest_ratio: 0.0, clock: "exact",
  };

  constructor(fields) {
    super(fields);
    if (this.ratios && !(this.ratios in RATIOS)) {
      throw new CallError(`there are no ratios '${this.ratios}'; ${validNames(Object.keys(RATIOS))}`);
    }
    BARS.set(this, alphaBars(this));
  }

  get timesteps() {
    return this.train_steps;
  }

  /** σ/α at a timestep; of pure noise one as of the faintest α. */
  ratio(t) {
    return Math.sqrt(1.0 / (BARS.get(this)[Math.floor(t)] || FAINTEST) - 1.0);
  }

  /** Between two timesteps σ/α is interpolated; where times are visited by their `ratios`, its logarithm. */
  alphaSigma(t) {
    if (t < 0 && this.last !== "zero") return [1.0, this.last === "zero_scaled" ? this.ratio(0) : 0.0];
    const at = Math.max(t, 0), share = at % 1.0;
    let bar = BARS.get(this)[Math.floor(at)];
    if (share) {
      const low = this.ratio(at), high = this.ratio(at + 1);
      const ratio = this.ratios ? low * (high / low) ** share : (1.0 - share) * low + share * high;
      bar = 1.0 / (1.0 + ratio ** 2);
    }
    return [Math.sqrt(bar), Math.sqrt(1.0 - bar)];
  }

  /** The time at which σ/α is `ratio`: it rises with t. */
  timeAt(ratio) {
    let low = 0.0, high = this.train_steps - 1;
    for (let i = 0; i < 64; i++) {
      const middle = 0.5 * (low + high), [a, s] = this.alphaSigma(middle);
      if (s < ratio * a) low = middle;
      else high = middle;
    }
    return high;
  }

  times(steps) {
    const times = timesteps(this.spacing, this.train_steps, steps, this.offset);
    if (!this.ratios) return times;
    const least = this.least_ratio || this.ratio(times.at(-1));
    const greatest = this.greatest_ratio || this.ratio(times[0]);
    return RATIOS[this.ratios](least, greatest, steps).map((ratio) => this.timeAt(ratio));
  }

  networkTime(t) {
    return this.clock === "exact" ? t : roundHalfEven(t);
  }
}

registerProcess(VariancePreserving);

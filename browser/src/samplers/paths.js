/** Paths of a future whose steps each have a distribution of their own: one call of one graph, then draws. */

import { CallError } from "../errors.js";
import { normalShare } from "../gaussian.js";
import { headFromJson, quantiles } from "../heads.js";
import { asked, registerSampler, Sampler } from "../sampler.js";
import { Tensor } from "../tensor.js";

/**
 * x_t = F_t⁻¹(Φ(z_t)), F_t from graph(...conditions), z a stationary Gaussian path along the last axis, neighbours
 * correlated by ρ (Salinas et al. 2019, Section 2), and the channels by L Lᵀ of `factor`.
 */
export class Paths extends Sampler {
  static kind = "paths";
  static fields = {
    shape: [1], graph: "forecaster", head: { kind: "quantiles" }, conditions: [], correlation: 0.0,
    temperature: 1.0, factor: [],
  };

  constructor(fields) {
    super(fields);
    this.drawn = headFromJson(this.head);
    if (!(this.correlation >= 0.0 && this.correlation < 1.0)) {
      throw new CallError(`the correlation of steps must lie in [0, 1), not ${this.correlation}`);
    }
    checkPaths(this);
  }

  async run(graphs, noise, conditions, progress) {
    const [said] = await graphs[this.graph](...asked(conditions, this.conditions));
    const z = along(together(noise.normal(this.shape), this.factor), this.shape.at(-1), this.correlation);
    const made = quantiles(this.drawn, said, z.map((value) => normalShare(value * this.temperature)));
    await progress(1, 1);
    return new Tensor(Float32Array.from(made), [noise.n, ...this.shape]);
  }
}

/** Raises CallError for a temperature below 0, and for a factor that does not mix the channels of a path. */
export function checkPaths({ temperature, factor, shape }) {
  if (temperature < 0.0) throw new CallError(`temperature must not be negative, not ${temperature}`);
  if (factor.length && (factor.length !== shape[0] || factor.some((row) => row.length !== factor.length))) {
    throw new CallError(`the factor of ${shape[0]} channels must have as many rows and columns`);
  }
}

/** Independent normals (n, C, …), a Tensor, with the channels' correlation L Lᵀ: Float64Array, row by row. */
export function together({ data, shape: [n, channels, ...rest] }, factor) {
  const fresh = Float64Array.from(data);
  if (!factor.length) return fresh;
  const steps = rest.reduce((product, side) => product * side, 1), out = new Float64Array(fresh.length);
  for (let at = 0; at < out.length; at++) {
    const t = at % steps, i = Math.floor(at / steps) % channels, from = at - i * steps - t;
    for (let j = 0; j < channels; j++) out[at] += factor[i][j] * fresh[from + j * steps + t];
  }
  return out;
}

/** Independent normals (…, T) as stationary paths of unit variance, neighbours correlated by ρ. */
export function along(fresh, steps, correlation) {
  if (correlation === 0.0) return fresh;
  const rest = Math.sqrt(1.0 - correlation ** 2), z = fresh.slice();
  for (let at = 0; at < z.length; at++) {
    if (at % steps) z[at] = correlation * z[at - 1] + rest * fresh[at];
  }
  return z;
}

registerSampler(Paths);

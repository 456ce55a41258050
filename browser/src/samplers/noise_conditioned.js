/** Super-resolution: a diffusion sampler that is given small pictures with noise, and told its level. */

import { CallError } from "../errors.js";
import { registerSampler, Sampler, samplerFromJson } from "../sampler.js";
import { Tensor } from "../tensor.js";

const OWN = ["augmentation", "factor"]; // its options beside those of the diffusion sampler

/**
 * The denoiser sees √(1 − s²) y + s ε in the place of small pictures y, and is told s (Ho et al. 2022, "Cascaded
 * diffusion models", Section 4.2). Of pictures of the samples' size the means of blocks are taken.
 */
export class NoiseConditioned extends Sampler {
  static kind = "noise_conditioned";
  static fields = {
    sampler: null, known: "low", low: "low", level: "level", small: [1, 1, 1], augmentation: 0.0, factor: 1,
  };

  static fromFields({ sampler = { kind: "diffusion" }, ...fields }) {
    return new NoiseConditioned({ sampler: samplerFromJson(sampler), ...fields });
  }

  constructor(fields) {
    super(fields);
    const { kind } = this.sampler.constructor;
    if (kind !== "diffusion") throw new CallError(`small pictures are given to a diffusion sampler, not to '${kind}'`);
    if (!(this.augmentation >= 0.0 && this.augmentation <= 1.0)) {
      throw new CallError(`'augmentation' is a level of noise, 0 … 1, not ${this.augmentation}`);
    }
    const [height, width] = [1, 1, ...this.sampler.shape].slice(-2), [, h, w] = this.small;
    if (this.small.length !== 3 || this.factor * h !== height || this.factor * w !== width) {
      throw new CallError(
        `small pictures (${this.small.join(", ")}) become samples of ${width}×${height} pixels here; `
        + `${this.factor} is not how often their sides go into those`,
      );
    }
  }

  async run(graphs, noise, conditions, progress) {
    const s = this.augmentation;
    let low = this.reduced(conditions[this.known]);
    if (s) low = low.times(Math.sqrt(1.0 - s * s)).plus(noise.normal(this.small, { stream: "condition" }).times(s));
    const given = { ...conditions, [this.low]: low, [this.level]: Tensor.full([noise.n], s) };
    return this.sampler.run(graphs, noise, given, progress);
  }

  /** Small pictures as they are; of others the means of blocks. */
  reduced(y) {
    const [channels, height, width] = this.small, { factor } = this, n = y.shape[0];
    if (y.size === channels * height * width) return y;
    const out = new Float32Array(n * channels * height * width), side = width * factor;
    for (let at = 0; at < out.length; at++) {
      const column = at % width, row = Math.floor(at / width); // row counts through samples and channels
      let sum = 0.0;
      for (let i = 0; i < factor; i++) {
        for (let j = 0; j < factor; j++) sum += y.data[(row * factor + i) * side + column * factor + j];
      }
      out[at] = sum / (factor * factor);
    }
    return new Tensor(out, [n, channels, height, width]);
  }

  override(changes) {
    const own = {}, inner = {};
    for (const [name, value] of Object.entries(changes)) (OWN.includes(name) ? own : inner)[name] = value;
    return super.override({ ...own, sampler: this.sampler.override(inner) });
  }

  options() {
    return [...OWN, ...this.sampler.options()];
  }

  parts() {
    return this.sampler.parts();
  }

  graphsUsed() {
    return this.sampler.graphsUsed();
  }

  evaluations() {
    return this.sampler.evaluations();
  }
}

registerSampler(NoiseConditioned);

/** Sampling from an average velocity: one call of the network for each step, however long the step is. */

import { CallError } from "../errors.js";
import { asked, registerSampler, Sampler } from "../sampler.js";
import { Tensor } from "../tensor.js";

/**
 * x_r = x_t − (t − r) u(x_t, t, r, ...conditions) from t = 1, noise, to r = 0, a sample (Geng et al. 2025,
 * "Mean flows for one-step generative modeling", Equation 12).
 *
 * steps: of equal length; each costs one call
 * clip:  bound of the samples, 0 for none
 */
export class MeanFlow extends Sampler {
  static kind = "mean_flow";
  static fields = { shape: [1], graph: "average_velocity", steps: 1, conditions: [], clip: 1.0 };

  constructor(fields) {
    super(fields);
    if (this.steps < 1) throw new CallError(`a sampler takes at least one step, not ${this.steps}`);
  }

  async run(graphs, noise, conditions, progress) {
    const given = asked(conditions, this.conditions);
    const clock = (t) => Tensor.full([noise.n], t);
    let x = noise.normal(this.shape);
    for (let i = 0; i < this.steps; i++) {
      const t = 1.0 - i / this.steps, r = 1.0 - (i + 1) / this.steps;
      const [u] = await graphs[this.graph](x, clock(t), clock(r), ...given);
      x = x.minus(u.times(t - r));
      if (i + 1 === this.steps && this.clip > 0.0) x = x.clip(-this.clip, this.clip);
      await progress(i + 1, this.steps);
    }
    return x;
  }

  evaluations() {
    return this.steps;
  }
}

registerSampler(MeanFlow);

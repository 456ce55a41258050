/** Series value after value: each step's distribution given those before it, with the network's state carried
 * along. */

import { CallError } from "../errors.js";
import { normalShare } from "../gaussian.js";
import { headFromJson, quantiles } from "../heads.js";
import { blankState, carry } from "../reading.js";
import { asked, registerSampler, Sampler } from "../sampler.js";
import { Tensor } from "../tensor.js";
import { checkPaths, together } from "./paths.js";

/**
 * parameters, ...state = step(value before, position, ...conditions, ...state); x_t = F_t⁻¹(Φ(z_t)), z normal. Where
 * `read` names a graph, that one reads the past and says the first step; options as
 * `niwaki_runtime.samplers.Steps` has them.
 */
export class Steps extends Sampler {
  static kind = "steps";
  static fields = {
    shape: [1, 1], step: "step", read: "", begin: 0, head: { kind: "quantiles" }, conditions: [], low: null,
    high: null, factor: [], temperature: 1.0,
  };

  constructor(fields) {
    super(fields);
    this.drawn = headFromJson(this.head);
    if (this.shape.length !== 2) {
      throw new CallError(`the sampler 'steps' makes series (C, T), not (${this.shape.join(", ")})`);
    }
    checkPaths(this);
  }

  async run(graphs, noise, conditions, progress) {
    const step = graphs[this.step], given = asked(conditions, this.conditions), { n } = noise;
    const [channels, steps] = this.shape, made = new Float32Array(n * channels * steps);
    const u = together(noise.normal(this.shape), this.factor).map((z) => normalShare(z * this.temperature));
    let state = blankState(step, n), value = Tensor.full([n, channels], 0.0);
    for (let t = 0; t < steps; t++) {
      const place = new Tensor(BigInt64Array.of(BigInt(this.begin + t)), [1]);
      const [said, ...news] = t === 0 && this.read
        ? await graphs[this.read](...given, ...state)
        : await step(value, place, ...given, ...state);
      state = carry(state, news, 0);
      const drawn = quantiles(this.drawn, said, Float64Array.from(value.data, (_, i) => u[i * steps + t]));
      const bounded = drawn.map((x) => Math.min(Math.max(x, this.low ?? -Infinity), this.high ?? Infinity));
      value = new Tensor(Float32Array.from(bounded), [n, channels]);
      value.data.forEach((x, i) => (made[i * steps + t] = x));
      await progress(t + 1, steps);
    }
    return new Tensor(made, [n, channels, steps]);
  }

  graphsUsed() {
    return this.read ? [this.step, this.read] : [this.step];
  }

  evaluations() {
    return this.shape[1];
  }
}

registerSampler(Steps);

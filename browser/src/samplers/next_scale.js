/** Codes of growing scales, all of a scale in one call (Tian et al. 2024, "VAR"). */

import { CallError } from "../errors.js";
import { blankState, carry } from "../reading.js";
import { asked, registerSampler, Sampler } from "../sampler.js";
import { Tensor } from "../tensor.js";
import { checkChoice, choose } from "../tokens.js";

/**
 * logits, ...state = graph(codes, scale, ...conditions, ...state), once per scale.
 *
 * counts: places of each scale, coarse to fine; a sample is all of them in a row
 */
export class NextScale extends Sampler {
  static kind = "next_scale";
  static fields = {
    counts: [1], graph: "prior", conditions: [], temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0,
  };

  constructor(fields) {
    super(fields);
    checkChoice(this);
    if (!this.counts.length || Math.min(...this.counts) < 1) {
      throw new CallError(`every scale of the sampler 'next_scale' has places, not (${this.counts.join(", ")})`);
    }
  }

  async run(graphs, noise, conditions, progress) {
    const graph = graphs[this.graph], given = asked(conditions, this.conditions), { n } = noise;
    const length = this.counts.reduce((sum, count) => sum + count, 0);
    const codes = Tensor.full([n, length], 0n, BigInt64Array);
    let state = blankState(graph, n), start = 0;
    for (const [scale, count] of this.counts.entries()) {
      const at = new Tensor(BigInt64Array.of(BigInt(scale)), [1]);
      const [said, ...news] = await graph(codes, at, ...given, ...state);
      state = carry(state, news, start);
      const [, places, size] = said.shape, u = noise.uniform(count, { draw: scale }).data;
      for (let s = 0; s < n; s++) {
        for (let j = 0; j < count; j++) {
          const from = (s * places + j) * size;
          const logits = Float64Array.from(said.data.subarray(from, from + size));
          codes.data[s * length + start + j] = BigInt(choose(logits, u[s * count + j], this));
        }
      }
      start += count;
      await progress(scale + 1, this.counts.length);
    }
    return codes;
  }

  evaluations() {
    return this.counts.length;
  }
}

registerSampler(NextScale);

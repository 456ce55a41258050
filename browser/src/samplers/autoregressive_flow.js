/** The inverse of an autoregressive flow: block after block, in each of them token after token. */

import { CallError } from "../errors.js";
import { blankState, carry } from "../reading.js";
import { asked, registerSampler, Sampler } from "../sampler.js";
import { Tensor } from "../tensor.js";

/**
 * x_t, ...state = block(x_before, z_t, step, ...conditions, ...state) for every token t, in every block; the tokens
 * that a block makes are the z of the next one; x = end(tokens, one after another). Options as
 * `niwaki_runtime.samplers.AutoregressiveFlow` has them.
 */
export class AutoregressiveFlow extends Sampler {
  static kind = "autoregressive_flow";
  static fields = {
    tokens: 1, width: 1, blocks: [], backwards: [], end: "end", conditions: [], latent: "", temperature: 1.0,
  };

  constructor(fields) {
    super(fields);
    if (!this.blocks.length || this.blocks.length !== this.backwards.length) {
      throw new CallError(
        "the sampler 'autoregressive_flow' needs a block or more, and a direction for each of them, "
        + `not ${this.blocks.length} and ${this.backwards.length}`,
      );
    }
  }

  async run(graphs, noise, conditions, progress) {
    const given = asked(conditions, this.conditions), { n } = noise, { tokens, width } = this;
    const drawn = this.latent ? conditions[this.latent] : noise.normal([tokens * width]);
    let x = this.latent || this.temperature === 1.0 ? drawn : drawn.times(this.temperature);
    x = new Tensor(x.data, [n, tokens, width]);
    for (const [i, name] of this.blocks.entries()) {
      const graph = graphs[name], made = Tensor.full(x.shape, 0.0);
      let state = blankState(graph, n), before = Tensor.full([n, width], 0.0), news;
      for (let t = 0; t < tokens; t++) {
        const place = this.backwards[i] ? tokens - 1 - t : t, step = new Tensor(BigInt64Array.of(BigInt(t)), [1]);
        [before, ...news] = await graph(before, x.column(place), step, ...given, ...state);
        state = carry(state, news, t);
        for (let s = 0; s < n; s++) {
          made.data.set(before.data.subarray(s * width, (s + 1) * width), (s * tokens + place) * width);
        }
        await progress(i * tokens + t + 1, this.evaluations());
      }
      x = made;
    }
    const [out] = await graphs[this.end](new Tensor(x.data, [n, tokens * width]));
    await progress(this.evaluations(), this.evaluations());
    return out;
  }

  graphsUsed() {
    return [...this.blocks, this.end];
  }

  evaluations() {
    return this.blocks.length * this.tokens + 1;
  }
}

registerSampler(AutoregressiveFlow);

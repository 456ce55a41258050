/** Several samplers as one: each sample is made by one of them, chosen by noise of its own. */

import { CallError } from "../errors.js";
import { Noise } from "../noise.js";
import { overrideEach, registerSampler, samplerFromJson, SamplerOfSeveral } from "../sampler.js";
import { Tensor } from "../tensor.js";

/** The noise of some of the samples of `whole`; `rows` are their positions in it. */
class Rows extends Noise {
  constructor(whole, rows, base = whole.base) {
    super(whole.seed, whole.start, rows.length, base);
    Object.assign(this, { whole, rows });
  }

  normal(shape, options) {
    return this.whole.from(this.base).normal(shape, options).take(this.rows);
  }

  uniform(size, options) {
    return this.whole.from(this.base).uniform(size, options).take(this.rows);
  }

  from(base) {
    return new Rows(this.whole, this.rows, base);
  }
}

/** Sample i is made by member ⌊u_i · members⌋, u_i uniform from the stream `member` of the noise. */
export class Mixture extends SamplerOfSeveral {
  static kind = "mixture";
  static fields = { members: [] };

  static fromFields({ members = [] }) {
    return new Mixture({ members: members.map(samplerFromJson) });
  }

  constructor(fields) {
    super(fields);
    if (!this.members.length) throw new CallError("a mixture needs at least one member");
  }

  async run(graphs, noise, conditions, progress) {
    const count = this.members.length, order = [], made = [];
    const chosen = noise.uniform(1, { stream: "member" }).data.map((u) => Math.min(Math.floor(u * count), count - 1));
    for (const [k, member] of this.members.entries()) {
      const rows = Array.from(chosen.keys()).filter((i) => chosen[i] === k);
      if (rows.length) {
        const given = Object.entries(conditions).map(([name, values]) => [name, values.take(rows)]);
        made.push(await member.run(graphs, new Rows(noise, rows), Object.fromEntries(given), async () => {}));
        order.push(...rows);
      }
      await progress(k + 1, count);
    }
    const back = Array(order.length);
    order.forEach((i, at) => (back[i] = at));
    return Tensor.concat(made).take(back);
  }

  override(changes) {
    return new Mixture({ members: overrideEach(this.members, changes, "no member of this mixture") });
  }

  get inner() {
    return this.members;
  }

  evaluations() {
    return Math.max(...this.members.map((member) => member.evaluations()));
  }
}

registerSampler(Mixture);

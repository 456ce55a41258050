/** Samplers in a row: a prior and its decoder, a base and its super-resolution. */

import { CallError } from "../errors.js";
import { overrideEach, registerSampler, samplerFromJson, SamplerOfSeveral } from "../sampler.js";

const LEG = 2 ** 24; // draws that one leg may use before it would meet the next

/**
 * Each leg's samples become a condition of the legs after it; the last leg's samples are the result.
 *
 * legs:    samplers, in order
 * outputs: the name under which each leg's samples are handed on (the last one is not used)
 */
export class Cascade extends SamplerOfSeveral {
  static kind = "cascade";
  static fields = { legs: [], outputs: [] };

  static fromFields({ legs = [], outputs = [] }) {
    return new Cascade({ legs: legs.map(samplerFromJson), outputs });
  }

  constructor(fields) {
    super(fields);
    if (!this.legs.length || this.outputs.length < this.legs.length - 1) {
      throw new CallError("a cascade needs at least one leg and a name for the output of each but the last");
    }
  }

  async run(graphs, noise, conditions, progress) {
    const known = { ...conditions }, total = this.evaluations();
    let done = 0, base = noise.base, out;
    for (const [k, leg] of this.legs.entries()) {
      const share = leg.evaluations(), before = done;
      const part = (i, of) => progress(before + Math.floor((share * i) / of), total);
      out = await leg.run(graphs, noise.from(base), known, part);
      if (k + 1 < this.legs.length) known[this.outputs[k]] = out;
      done += share;
      base += leg.parts().length * LEG; // a cascade within takes a range of draws for each of its own legs
    }
    return out;
  }

  override(changes) {
    const legs = overrideEach(this.legs, changes, "no leg of this cascade");
    return new Cascade({ legs, outputs: this.outputs });
  }

  get inner() {
    return this.legs;
  }

  evaluations() {
    return this.legs.reduce((sum, leg) => sum + leg.evaluations(), 0);
  }
}

registerSampler(Cascade);

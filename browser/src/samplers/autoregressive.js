/** Token after token, with the network's state carried along; a prompt in strides of many tokens. */

import { CallError } from "../errors.js";
import { checkGuidance, questions, Reader } from "../reading.js";
import { registerSampler, Sampler } from "../sampler.js";
import { Tensor } from "../tensor.js";
import { checkChoice, choose, penalize } from "../tokens.js";

const ABSENT = -1; // stands in a prompt where it has ended, and where a token is still to be made

/**
 * logits, ...state = graph(token, position, ...conditions, ...state), once per position; options as
 * `niwaki_runtime.samplers.Autoregressive` has them. A graph that draws several tokens in one call (`ahead`) is
 * not used: its tokens are those of `graph`. Beams are left to `niwaki_runtime`.
 */
export class Autoregressive extends Sampler {
  static kind = "autoregressive";
  static fields = {
    length: 1, first: 0, graph: "decode", conditions: [], temperature: 1.0, top_k: 0, top_p: 1.0, prompt: "",
    prefill: "", stride: 1, stop: -1, stops: [], alone: false, min_p: 0.0, penalty: 1.0, bias: [], beams: 1,
    length_penalty: 1.0, ahead: "", unroll: 1, guidance: 1.0, null: {}, encoders: {}, keep: 0,
  };

  constructor(fields) {
    super(fields);
    if (this.beams > 1) throw new CallError("the browser runtime has no beams; niwaki-runtime has them");
    checkChoice(this);
    checkGuidance(this);
  }

  async run(graphs, noise, conditions, progress) {
    const { read, lengths, led } = this.layout(conditions, noise.n);
    const width = read[0].length, ends = this.stop >= 0 ? [this.stop, ...this.stops] : [];
    const prompted = (i, column) => column >= led[i] && column - led[i] < lengths[i];
    const nothing = this.prompt in this.null ? this.null[this.prompt] : ABSENT;
    const blank = (i, column) => (prompted(i, column) ? nothing : ABSENT);
    const reader = new Reader(this, graphs, await questions(this, graphs, conditions), noise.n, blank);
    const begun = this.prefill ? this.common(read) : 1;
    let logits = this.prefill ? await reader.last(read.map((row) => row.slice(0, begun))) : null;
    const over = read.map(() => null); // the token that ended a sample, which then fills it up
    for (let at = begun; at < width; at++) {
      if (over.every((token) => token !== null)) {
        read.forEach((row, i) => row.fill(over[i], at));
        break;
      }
      if (at > begun || logits === null) {
        const before = read.map((row) => (row[at - 1] === ABSENT ? this.first : row[at - 1]));
        logits = await reader.step(before, at - 1);
      }
      const u = this.uniform(noise, led, at);
      for (const [i, row] of read.entries()) {
        if (over[i] !== null) row[at] = over[i];
        else if (row[at] === ABSENT) row[at] = choose(this.adjusted(logits.rows(i, 1).data, row.slice(0, at)), u[i], this);
        // A prompt may hold an end itself: only what comes after the prompt ends a sample.
        if (over[i] === null && at - led[i] >= lengths[i] && ends.includes(row[at])) over[i] = row[at];
      }
      await progress(at + 1 + this.length - width, this.length);
    }
    const made = read.flatMap((row, i) => row.slice(led[i], led[i] + this.length).slice(-this.keep || undefined));
    return new Tensor(BigInt64Array.from(made, BigInt), [noise.n, this.keep || this.length]);
  }

  /** `first` where it stands, then the prompts, then room. Raises CallError where a prompt has a gap. */
  layout(conditions, n) {
    const prompt = this.prompt ? conditions[this.prompt] : null;
    const given = Array.from({ length: n }, (_, i) =>
      (prompt ? Array.from(prompt.rows(i, 1).data, Number).slice(0, this.length) : []));
    const lengths = given.map((row) => row.filter((token) => token !== ABSENT).length);
    if (given.some((row, i) => row.slice(0, lengths[i]).includes(ABSENT))) {
      throw new CallError(`a prompt must be filled up with ${ABSENT} after its end, not before or inside it`);
    }
    const led = lengths.map((length) => (this.alone && length > 0 ? 0 : 1));
    const width = this.length + (led.includes(1) ? 1 : 0);
    const read = given.map((row, i) => {
      const begin = [...(led[i] ? [this.first] : []), ...row];
      return [...begin, ...Array(Math.max(0, width - begin.length)).fill(ABSENT)];
    });
    return { read, lengths, led };
  }

  /** How many tokens to read at once: those that all samples have. */
  common(read) {
    const known = read[0].findIndex((_, column) => read.some((row) => row[column] === ABSENT));
    return Math.min(known < 0 ? read[0].length : known, this.length);
  }

  /** The numbers that choose column `at`: the same ones wherever `first` stands. */
  uniform(noise, led, at) {
    const drawn = [...new Set(led)].map((shift) => [shift, noise.uniform(1, { draw: at - shift }).data]);
    const by = new Map(drawn);
    return led.map((shift, i) => by.get(shift)[i]);
  }

  /** Logits after bias and penalty, given what the sample holds already. */
  adjusted(logits, seen) {
    const z = Float64Array.from(logits);
    for (const [token, added] of this.bias) {
      if (!(token >= 0 && token < z.length)) {
        throw new CallError(`there is no token ${token} to give a bias: they are 0 … ${z.length - 1}`);
      }
      z[token] += added;
    }
    if (this.penalty !== 1.0) penalize(z, seen, this.penalty);
    return z;
  }

  graphsUsed() {
    return [...new Set([...Object.values(this.encoders), this.graph, this.prefill].filter(Boolean))];
  }

  evaluations() {
    return this.length;
  }
}

registerSampler(Autoregressive);

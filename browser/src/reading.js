/** Networks that read tokens one after another, or many at once, and remember those that they have read. */

import { CallError } from "./errors.js";
import { asked } from "./sampler.js";
import { Tensor, TYPES } from "./tensor.js";

/** What a graph carries from one call to the next, before the first one: zeros for n samples. */
function zeros({ shape, batch_axis: batchAxis = 0, dtype = "float32" }, n) {
  const sides = shape.map((side, axis) => (axis === batchAxis ? n : side));
  return new Tensor(new TYPES[dtype](sides.reduce((product, side) => product * side, 1)), sides);
}

/** What a graph remembers before its first call, for n samples. */
export const blankState = (graph, n) => graph.state.map((declared) => zeros(declared, n));

/** What a graph remembers after a call that put out `made` and began at `position`. */
export const carry = (state, made, position) => state.map((held, i) => carried(held, made[i], position));

/** `made`, or `held` with the rows of `made` written into it at `position`. */
function carried(held, made, position) {
  const axis = held.shape.findIndex((side, i) => side !== made.shape[i]);
  if (axis < 0) return made;
  const inner = held.shape.slice(axis + 1).reduce((product, side) => product * side, 1);
  const outer = held.shape.slice(0, axis).reduce((product, side) => product * side, 1);
  const all = held.shape[axis], fresh = made.shape[axis], count = Math.min(fresh, all - position) * inner;
  for (let i = 0; i < outer; i++) {
    const from = i * fresh * inner;
    held.data.set(made.data.subarray(from, from + count), (i * all + position) * inner);
  }
  return held;
}

/** out(∅) + w (out(c) − out(∅)) of 2n rows, out(c) first: n rows (Ho & Salimans 2022). */
export function led(both, guidance) {
  const n = both.shape[0] / 2, free = both.rows(n, n);
  return free.plus(both.rows(0, n).minus(free).times(guidance));
}

/** Raises CallError for guidance of a model that cannot be asked for nothing. */
export function checkGuidance({ guidance, conditions, prompt = "", null: nothing }) {
  if (guidance !== 1.0 && ![...conditions, prompt].some((name) => name in nothing)) {
    throw new CallError("guidance needs a condition with a null value, and this model has none");
  }
}

/** The conditions as the network is given them; with guidance 2n rows, with the question and then without. */
export async function questions(sampler, graphs, conditions) {
  const encoded = async (values) => {
    const found = [];
    for (const [i, value] of asked(values, sampler.conditions).entries()) {
      const encoder = sampler.encoders[sampler.conditions[i]];
      found.push(encoder === undefined ? value : (await graphs[encoder](value))[0]);
    }
    return found;
  };
  const given = await encoded(conditions);
  if (sampler.guidance === 1.0) return given;
  const blank = Object.entries(conditions).map(([name, value]) =>
    [name, name in sampler.null ? Tensor.full(value.shape, BigInt(sampler.null[name]), BigInt64Array) : value]);
  const empty = await encoded(Object.fromEntries(blank));
  return given.map((value, i) => Tensor.concat([value, empty[i]]));
}

/** The networks of an autoregressive sampler, with what they remember of n samples. */
export class Reader {
  /** given: as `questions` has them; blank: what is read at a place where nothing is asked, (row, column) → token,
   * −1 for the token that stands there */
  constructor(sampler, graphs, given, n, blank) {
    this.one = graphs[sampler.graph];
    this.many = sampler.prefill ? graphs[sampler.prefill] : null;
    Object.assign(this, { given, blank, guidance: sampler.guidance, stride: sampler.stride });
    this.state = blankState(this.many ?? this.one, this.guidance === 1.0 ? n : 2 * n);
  }

  /** Read the tokens (a row each) at a place: logits (n, V) of the next. */
  step(tokens, at) {
    return this.call(this.one, tokens.map((token) => [token]), at, false);
  }

  /** Read rows of tokens from the beginning on, by strides: logits (n, V) of what comes after them. */
  async last(rows) {
    let logits;
    for (let start = 0; start < rows[0].length; start += this.stride) {
      const part = rows.map((row) => row.slice(start, start + this.stride)), used = part[0].length;
      const padded = part.map((row) => [...row, ...Array(this.stride - used).fill(row.at(-1))]);
      const { data, shape: [n, stride, size] } = await this.call(this.many, padded, start, true);
      const out = new data.constructor(n * size);
      for (let i = 0; i < n; i++) {
        const from = (i * stride + used - 1) * size;
        out.set(data.subarray(from, from + size), i * size);
      }
      logits = new Tensor(out, [n, size]);
    }
    return logits;
  }

  async call(graph, rows, at, wide) {
    const all = this.guidance === 1.0 ? rows : [...rows, ...this.unasked(rows, at)];
    const shape = wide ? [all.length, this.stride] : [all.length];
    const tokens = new Tensor(BigInt64Array.from(all.flat(), BigInt), shape);
    const place = new Tensor(BigInt64Array.of(BigInt(at)), [1]);
    const [said, ...news] = await graph(tokens, place, ...this.given, ...this.state);
    this.state = carry(this.state, news, at);
    return this.guidance === 1.0 ? said : led(said, this.guidance);
  }

  unasked(rows, at) {
    return rows.map((row, i) => row.map((token, j) => {
      const nothing = this.blank(i, at + j);
      return nothing < 0 ? token : nothing;
    }));
  }
}

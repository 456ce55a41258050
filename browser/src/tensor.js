/**
 * Arrays with a shape, and the arithmetic that samplers need.
 *
 * A result has the type of its left operand and every operation rounds to it, numbers included, as numpy does
 * with Python floats: solvers then compute on both sides the same, bit by bit.
 */

import { CallError } from "./errors.js";

/** numpy names of the types that graphs take and give. */
export const TYPES = {
  float32: Float32Array,
  float64: Float64Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

const sizeOf = (shape) => shape.reduce((product, side) => product * side, 1);

/** data: a typed array, row by row; shape: its sides, the samples counted along the first one */
export class Tensor {
  constructor(data, shape) {
    if (data.length !== sizeOf(shape)) {
      throw new CallError(`${data.length} values do not fill the shape (${shape.join(", ")})`);
    }
    this.data = data;
    this.shape = shape;
  }

  static full(shape, value, type = Float32Array) {
    return new Tensor(new type(sizeOf(shape)).fill(value), shape);
  }

  /** Values of one row. */
  get size() {
    return sizeOf(this.shape.slice(1));
  }

  /** Several with the same rows beside them, one below the other. */
  static concat(parts) {
    if (parts.length === 1) return parts[0];
    const data = new parts[0].data.constructor(parts.reduce((sum, part) => sum + part.data.length, 0));
    let at = 0;
    for (const part of parts) {
      data.set(part.data, at);
      at += part.data.length;
    }
    return new Tensor(data, [parts.reduce((sum, part) => sum + part.shape[0], 0), ...parts[0].shape.slice(1)]);
  }

  /** Rows at … at+count−1; the last one is repeated where there are fewer. */
  rows(at, count) {
    const size = this.size, there = Math.min(count, this.shape[0] - at);
    const data = new this.data.constructor(count * size);
    data.set(this.data.subarray(at * size, (at + there) * size));
    for (let i = there; i < count; i++) data.copyWithin(i * size, (there - 1) * size, there * size);
    return new Tensor(data, [count, ...this.shape.slice(1)]);
  }

  /** The rows of these numbers. */
  take(numbers) {
    return Tensor.concat(Array.from(numbers, (i) => this.rows(i, 1)));
  }

  /** What stands at j of the second axis: (n, …) without that axis. */
  column(j) {
    const [n, width, ...rest] = this.shape, size = sizeOf(rest);
    const data = new this.data.constructor(n * size);
    for (let i = 0; i < n; i++) {
      const from = (i * width + j) * size;
      data.set(this.data.subarray(from, from + size), i * size);
    }
    return new Tensor(data, [n, ...rest]);
  }

  map(f) {
    return new Tensor(this.data.map(f), this.shape);
  }

  /** f of each value and the one at the same place of the other tensor. */
  with(other, f) {
    if (other.data.length !== this.data.length) {
      throw new CallError(`shapes (${this.shape.join(", ")}) and (${other.shape.join(", ")}) do not match`);
    }
    const there = other.data;
    return new Tensor(this.data.map((value, i) => f(value, there[i])), this.shape);
  }

  plus(other) {
    return this.with(other, (a, b) => a + b);
  }

  minus(other) {
    return this.with(other, (a, b) => a - b);
  }

  times(factor) {
    const f = this.rounded(factor);
    return this.map((value) => value * f);
  }

  over(divisor) {
    const d = this.rounded(divisor);
    return this.map((value) => value / d);
  }

  clip(low, high) {
    const least = this.rounded(low), most = this.rounded(high);
    return this.map((value) => (value < least ? least : value > most ? most : value));
  }

  /** A number as this tensor's type holds it. */
  rounded(value) {
    return this.data instanceof Float32Array ? Math.fround(value) : value;
  }

  /** The same values as another type of numbers. */
  as(type) {
    const { data } = this;
    if (data instanceof type) return this;
    const big = type === BigInt64Array || type === BigUint64Array;
    const was = data instanceof BigInt64Array || data instanceof BigUint64Array;
    return new Tensor(type.from(data, big === was ? undefined : big ? BigInt : Number), this.shape);
  }
}

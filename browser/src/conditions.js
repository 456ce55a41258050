/** What samples can be asked to be, and the check of what a caller asks: `niwaki_runtime.specs.condition`. */

import { CallError, validNames } from "./errors.js";
import { Tensor } from "./tensor.js";

const isTokens = (spec) => spec.value.values.kind === "tokens";
const isLabel = (spec) => isTokens(spec) && spec.value.shape.length === 0;

/**
 * What a caller asked for, one row per sample, by input name: int64 Tensors of tokens, float32 ones of amounts.
 *
 * inputs: nothing (the defaults: classes in turn, by sample index), values by name, or a bare value for the only
 *         input; a value is one for all samples or has one row for each: numbers, names of classes, nested
 *         arrays, typed arrays, Tensors
 * Raises CallError for an unknown name, a wrong shape, or an input that must be given and was not.
 */
export function resolve(specs, inputs, start, n) {
  const names = Object.keys(specs);
  const given = byName(names, inputs);
  for (const name of Object.keys(given)) {
    if (!(name in specs)) {
      throw new CallError(`this model has no condition '${name}'; ${validNames(names)}`);
    }
  }
  const rows = {};
  for (const name of names) {
    rows[name] = name in given ? checked(name, specs[name], given[name], n) : usual(specs[name], start, n);
    if (!rows[name]) throw new CallError(`condition '${name}' must be given for this model`);
  }
  return rows;
}

function byName(names, inputs) {
  if (inputs === undefined || inputs === null) return {};
  const table = Object.getPrototypeOf(inputs) === Object.prototype;
  if (table) return inputs;
  if (names.length === 1) return { [names[0]]: inputs };
  if (!names.length) throw new CallError("this model takes no condition");
  throw new CallError(`this model takes several conditions; name them: ${names.join(", ")}`);
}

/** What is asked when nobody asks: labels in turn, by sample index; nothing where none is sensible. */
function usual(spec, start, n) {
  if (isLabel(spec)) {
    const size = BigInt(spec.value.values.n);
    return new Tensor(BigInt64Array.from({ length: n }, (_, i) => (BigInt(start) + BigInt(i)) % size), [n]);
  }
  if (spec.null === null || spec.null === undefined) return null;
  const shape = [n, ...spec.value.shape];
  return isTokens(spec) ? Tensor.full(shape, BigInt(spec.null), BigInt64Array) : Tensor.full(shape, spec.null);
}

function checked(name, spec, value, n) {
  const { data, shape } = flat(name, spec, value);
  const wanted = spec.value.shape, all = [n, ...wanted];
  let rows = data;
  if (same(shape, wanted)) {
    rows = Array.from({ length: n }, () => data).flat();
  } else if (!same(shape, all)) {
    throw new CallError(`condition '${name}' must have the shape (${all.join(", ")}), not (${shape.join(", ")})`);
  }
  if (!isTokens(spec)) return new Tensor(Float32Array.from(rows, Number), all);
  const size = spec.value.values.n;
  for (const one of rows) {
    const token = Number(one);
    if (!Number.isInteger(token)) throw new CallError(`condition '${name}' must be integers`);
    if ((token < 0 || token >= size) && token !== spec.null) {
      throw new CallError(`condition '${name}' has the value ${one}, outside 0 … ${size - 1}`);
    }
  }
  return new Tensor(BigInt64Array.from(rows, BigInt), all);
}

const same = (a, b) => a.length === b.length && a.every((side, i) => side === b[i]);

/** All values in one list, and the shape that they had. */
function flat(name, spec, value) {
  if (value instanceof Tensor) return { data: Array.from(value.data), shape: value.shape };
  if (!Array.isArray(value) && !ArrayBuffer.isView(value)) return { data: [numbered(name, spec, value)], shape: [] };
  const parts = Array.from(value, (one) => flat(name, spec, one));
  const shape = parts[0]?.shape ?? [];
  if (parts.some((part) => !same(part.shape, shape))) {
    throw new CallError(`condition '${name}' must be lists of equal lengths`);
  }
  return { data: parts.flatMap((part) => part.data), shape: [parts.length, ...shape] };
}

/** A number as it is; a name of a class as its number. */
function numbered(name, spec, value) {
  if (typeof value === "number" || typeof value === "bigint") return value;
  if (typeof value === "boolean") return Number(value);
  const known = spec.value.names ?? [];
  if (typeof value === "string") {
    if (known.includes(value)) return known.indexOf(value);
    const number = /^-?\d+$/;
    if (isLabel(spec) && number.test(value) && !known.some((one) => number.test(one))) return Number(value);
    throw new CallError(known.length
      ? `there is no class '${value}'; ${validNames(known)}`
      : `'${value}' is no class; give a number from 0 to ${spec.value.values.n - 1}`);
  }
  throw new CallError(`condition '${name}' must be numbers, not ${typeof value}`);
}

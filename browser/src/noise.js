/**
 * Counter-based noise: seed + sample index + draw → the same numbers as `niwaki_runtime.noise` gives.
 *
 * The key is (seed, stream << 32 | draw); sample i owns the counters [i·B, (i+1)·B) with B = ⌈d/8⌉ blocks of
 * four 64-bit words, and each word gives two 32-bit uniforms. Words and uniforms are equal bit by bit. Normals
 * come from the same Box–Muller transform with float32 rounding at the same places; its logarithm, cosine and
 * sine are computed here in float64 and rounded, there in float32, which differ in the last bits.
 */

import { CallError } from "./errors.js";
import { philox } from "./philox.js";
import { Tensor } from "./tensor.js";

/** What a draw is for. Different streams never share a number. */
export const STREAMS = { latent: 0, step: 1, token: 2, condition: 3, project: 4, member: 5, watermark: 6 };

const CELL = 2 ** -32, HALF_CELL = 2 ** -33;
const TWO_PI = Math.fround(2 * Math.PI);

/** B = ⌈size/8⌉: Philox blocks that one sample of `size` normals (or 32-bit uniforms) owns. */
export const blocks = (size) => Math.ceil(size / 8);

/** 32-bit words of the samples start … start+n−1: Uint32Array of n·size, row by row. */
export function raw(seed, start, n, size, { stream = "latent", draw = 0 } = {}) {
  const first = BigInt(start);
  if (n < 0 || first < 0n) {
    throw new CallError(`a range of samples must not be negative: start ${start}, n ${n}`);
  }
  if (!(stream in STREAMS)) throw new CallError(`there is no stream '${stream}' of noise`);
  if (!(draw >= 0 && draw < 2 ** 32)) throw new CallError(`a draw is numbered 0 … 2³²−1, not ${draw}`);
  const b = blocks(size);
  const key = Uint32Array.from([...halves(BigInt.asUintN(64, BigInt(seed))), draw, STREAMS[stream]]);
  let counter = first * BigInt(b);
  const limbs = new Uint32Array(8);
  for (let i = 0; i < 8; i++, counter >>= 32n) limbs[i] = Number(counter & 0xffffffffn);
  const words = philox(key, limbs, n * b);
  if (size === 8 * b) return words;
  const out = new Uint32Array(n * size);
  for (let i = 0; i < n; i++) out.set(words.subarray(8 * b * i, 8 * b * i + size), size * i);
  return out;
}

function halves(value) {
  return [Number(value & 0xffffffffn), Number(value >> 32n)];
}

/** Uniforms in (0, 1): float64 Tensor (n, size), from 32-bit words at the centre of their cell. */
export function uniform(seed, start, n, size = 1, { stream = "token", draw = 0 } = {}) {
  const words = raw(seed, start, n, size, { stream, draw });
  return new Tensor(Float64Array.from(words, (word) => (word + 0.5) * CELL), [n, size]);
}

/**
 * Standard normals for the samples start … start+n−1: float32 Tensor (n, ...shape).
 *
 * Box & Muller (1958): √(−2 ln u₁)·(cos 2πu₂, sin 2πu₂), u₁ from the first half of a sample's words and u₂
 * from the second. float32 rounding can carry u₁ to exactly 1, where the normal is 0.
 */
export function normal(seed, start, n, shape, { stream = "latent", draw = 0 } = {}) {
  const size = shape.reduce((product, side) => product * side, 1);
  const half = 4 * blocks(size);
  const words = raw(seed, start, n, 2 * half, { stream, draw });
  const out = new Float32Array(n * size);
  const round = Math.fround;
  const share = (word) => round(round(round(word) * CELL) + HALF_CELL);
  for (let row = 0; row < n; row++) {
    const from = 2 * half * row, to = size * row;
    for (let j = 0; j < Math.min(half, size); j++) {
      const radius = Math.sqrt(round(-2 * round(Math.log(share(words[from + j])))));
      const angle = round(share(words[from + half + j]) * TWO_PI);
      out[to + j] = round(radius) * round(Math.cos(angle));
      if (half + j < size) out[to + half + j] = round(radius) * round(Math.sin(angle));
    }
  }
  return new Tensor(out, [n, ...shape]);
}

/** The randomness of samples start … start+n−1 of one seed. `base` keeps the legs of a cascade apart. */
export class Noise {
  constructor(seed, start, n, base = 0) {
    Object.assign(this, { seed, start, n, base });
  }

  /** Standard normals (n, ...shape), float32. */
  normal(shape, { stream = "latent", draw = 0 } = {}) {
    return normal(this.seed, this.start, this.n, shape, { stream, draw: this.base + draw });
  }

  /** Uniforms in (0, 1) (n, size), float64. */
  uniform(size = 1, { stream = "token", draw = 0 } = {}) {
    return uniform(this.seed, this.start, this.n, size, { stream, draw: this.base + draw });
  }

  /** The same samples with draws from `base` on. */
  from(base) {
    return new Noise(this.seed, this.start, this.n, base);
  }
}

/**
 * Philox4x64-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) in 32-bit halves.
 * Numbers of 64 bits are pairs of 32-bit words, the lower one first: BigInt would take ten times as long.
 */

const M0_HIGH = 0xd2e7470e, M0_LOW = 0xe14c6c93;
const M1_HIGH = 0xca5a8263, M1_LOW = 0x95121157;
const W0_HIGH = 0x9e3779b9, W0_LOW = 0x7f4a7c15;
const W1_HIGH = 0xbb67ae85, W1_LOW = 0x84caa73b;
const TWO_32 = 2 ** 32;

/** The upper 32 bits of a·b, both of 32 bits: no product of halves is larger than 2³². */
function high(a, b) {
  const a0 = a & 0xffff, a1 = a >>> 16, b0 = b & 0xffff, b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  return a1 * b1 + (middle >>> 16) + ((a0 * b1 + (middle & 0xffff)) >>> 16);
}

const product = new Uint32Array(4); // of the last `multiply`, the lowest word first

/** product = (aHigh·2³² + aLow) · (bHigh·2³² + bLow) */
function multiply(aHigh, aLow, bHigh, bLow) {
  const low = high(aLow, bLow) + (Math.imul(aLow, bHigh) >>> 0) + (Math.imul(aHigh, bLow) >>> 0);
  const middle = high(aLow, bHigh) + high(aHigh, bLow) + (Math.imul(aHigh, bHigh) >>> 0)
    + Math.floor(low / TWO_32);
  product[0] = Math.imul(aLow, bLow);
  product[1] = low >>> 0;
  product[2] = middle >>> 0;
  product[3] = high(aHigh, bHigh) + Math.floor(middle / TWO_32);
}

/**
 * The words of `count` blocks from a counter on: Uint32Array of 8 per block, each 64-bit word's lower half
 * first.
 *
 * key:     Uint32Array of 4, the first 64-bit word's lower half first
 * counter: Uint32Array of 8 (256 bits), the lowest word first; it is not changed
 */
export function philox(key, counter, count) {
  const out = new Uint32Array(8 * count);
  const at = Uint32Array.from(counter);
  const c = new Uint32Array(8);
  for (let block = 0; block < count; block++) {
    c.set(at);
    let k0 = key[0], k1 = key[1], k2 = key[2], k3 = key[3];
    for (let round = 0; round < 10; round++) {
      multiply(c[1], c[0], M0_HIGH, M0_LOW);
      const p0 = product[0], p1 = product[1], p2 = product[2], p3 = product[3];
      multiply(c[5], c[4], M1_HIGH, M1_LOW);
      c[0] = product[2] ^ c[2] ^ k0;
      c[1] = product[3] ^ c[3] ^ k1;
      c[4] = p2 ^ c[6] ^ k2;
      c[5] = p3 ^ c[7] ^ k3;
      c[2] = product[0];
      c[3] = product[1];
      c[6] = p0;
      c[7] = p1;
      const low0 = k0 + W0_LOW, low1 = k2 + W1_LOW;
      k0 = low0 >>> 0;
      k1 = (k1 + W0_HIGH + (low0 >= TWO_32 ? 1 : 0)) >>> 0;
      k2 = low1 >>> 0;
      k3 = (k3 + W1_HIGH + (low1 >= TWO_32 ? 1 : 0)) >>> 0;
    }
    out.set(c, 8 * block);
    increment(at);
  }
  return out;
}

/** The next number of 256 bits, in place. */
function increment(words) {
  for (let i = 0; i < words.length; i++) {
    words[i] += 1; // modulo 2³²
    if (words[i] !== 0) return;
  }
}

/** SHA-256 (FIPS 180-4) as lower-case hexadecimal digits. */

/**
 * The digest of bytes. Pages of an address without encryption have no `crypto.subtle` (localhost has): then it
 * is computed here, at some tens of megabytes per second.
 */
export async function sha256(bytes) {
  const subtle = globalThis.crypto?.subtle;
  const digest = subtle ? new Uint8Array(await subtle.digest("SHA-256", bytes)) : computed(bytes);
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The first 32 bits of the fractional parts of the roots (square: 1/2, cubic: 1/3) of the first primes. */
function rootsOfPrimes(count, power) {
  const out = [];
  for (let n = 2; out.length < count; n++) {
    let prime = true;
    for (let d = 2; d * d <= n; d++) prime &&= n % d !== 0;
    if (prime) out.push(((n ** power) % 1) * 2 ** 32);
  }
  return Uint32Array.from(out);
}

const START = rootsOfPrimes(8, 1 / 2);
const ROUNDS = rootsOfPrimes(64, 1 / 3);

/** The digest by this file's own arithmetic: Uint8Array of 32. */
export function computed(bytes) {
  const length = Math.ceil((bytes.length + 9) / 64) * 64;
  const rest = new Uint8Array(length - (bytes.length & ~63)); // the last blocks: what is left, a one, the length
  rest.set(bytes.subarray(bytes.length & ~63));
  rest[bytes.length & 63] = 0x80;
  new DataView(rest.buffer).setBigUint64(rest.length - 8, BigInt(bytes.length) * 8n);
  const state = Uint32Array.from(START);
  const whole = new DataView(bytes.buffer, bytes.byteOffset, bytes.length & ~63);
  for (let at = 0; at < whole.byteLength; at += 64) compress(state, whole, at);
  const last = new DataView(rest.buffer);
  for (let at = 0; at < rest.length; at += 64) compress(state, last, at);
  const out = new DataView(new ArrayBuffer(32));
  state.forEach((word, i) => out.setUint32(4 * i, word));
  return new Uint8Array(out.buffer);
}

const w = new Uint32Array(64);
const turned = (x, n) => (x >>> n) | (x << (32 - n));

/** One block of 64 bytes. */
function compress(state, view, at) {
  for (let i = 0; i < 16; i++) w[i] = view.getUint32(at + 4 * i);
  for (let i = 16; i < 64; i++) {
    const s0 = turned(w[i - 15], 7) ^ turned(w[i - 15], 18) ^ (w[i - 15] >>> 3);
    const s1 = turned(w[i - 2], 17) ^ turned(w[i - 2], 19) ^ (w[i - 2] >>> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i++) {
    const s1 = turned(e, 6) ^ turned(e, 11) ^ turned(e, 25);
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + ROUNDS[i] + w[i]) | 0;
    const s0 = turned(a, 2) ^ turned(a, 13) ^ turned(a, 22);
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((word, i) => (state[i] += word));
}

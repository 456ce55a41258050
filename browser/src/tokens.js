/** From logits to one token, in float64: penalty, temperature, top-k, top-p, min-p, and the inverse of the
 * distribution function, in the order of `niwaki_runtime.samplers.tokens`. */

import { CallError } from "./errors.js";

/** Raises CallError for options of a sampler that choose no token. */
export function checkChoice({ temperature, top_k: topK, top_p: topP, min_p: minP }) {
  if (temperature < 0.0 || topK < 0 || !(topP > 0.0 && topP <= 1.0)) {
    throw new CallError(
      "temperature and top_k must not be negative and top_p must lie in (0, 1], "
      + `not ${temperature}, ${topK} and ${topP}`,
    );
  }
  if (!(minP >= 0.0 && minP <= 1.0)) throw new CallError(`min_p must lie in [0, 1], not ${minP}`);
}

/** Logits of tokens that were seen: positive ones divided by the penalty, others multiplied (Keskar et al. 2019). */
export function penalize(logits, seen, penalty) {
  for (const token of new Set(seen)) {
    if (token < 0 || token >= logits.length) continue;
    logits[token] = logits[token] > 0 ? logits[token] / penalty : logits[token] * penalty;
  }
}

function softmax(z) {
  const most = z.reduce((a, b) => Math.max(a, b), -Infinity);
  const e = z.map((value) => Math.exp(value - most));
  const sum = e.reduce((a, b) => a + b, 0.0);
  return e.map((value) => value / sum);
}

/** Logits (Float64Array) after temperature and filters; what is cut off is −∞. Ties at the k-th are kept. */
function filtered(logits, { temperature, top_k: topK, top_p: topP, min_p: minP }) {
  let z = logits.map((value) => value / temperature);
  if (topK > 0 && topK < z.length) {
    const kth = z.slice().sort()[z.length - topK];
    z = z.map((value) => (value < kth ? -Infinity : value));
  }
  if (topP < 1.0) {
    const order = Array.from(z.keys()).sort((a, b) => z[b] - z[a] || a - b);
    const p = softmax(Float64Array.from(order, (i) => z[i]));
    let sum = 0.0;
    order.forEach((i, place) => {
      sum += p[place];
      if (place && sum - p[place] >= topP) z[i] = -Infinity; // the token that crosses top_p stays
    });
  }
  if (minP > 0.0) {
    const least = z.reduce((a, b) => Math.max(a, b), -Infinity) + Math.log(minP);
    z = z.map((value) => (value < least ? -Infinity : value));
  }
  return z;
}

/** log p, in nats, of one token of logits (Float64Array). */
export function logProbability(logits, token) {
  const most = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const sum = logits.reduce((total, value) => total + Math.exp(value - most), 0.0);
  return logits[token] - most - Math.log(sum);
}

/** One token of logits (Float64Array) by a uniform number; temperature 0 is greedy. */
export function choose(logits, u, choice) {
  if (choice.temperature === 0.0) return logits.indexOf(logits.reduce((a, b) => Math.max(a, b), -Infinity));
  const sums = softmax(filtered(logits, choice));
  for (let i = 1; i < sums.length; i++) sums[i] += sums[i - 1];
  const wanted = u * sums.at(-1);
  const found = sums.findIndex((sum) => sum >= wanted);
  return found < 0 ? sums.length - 1 : found;
}

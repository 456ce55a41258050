/** Heads: what a network says of a number that it does not know for sure, and its value at a probability: those of
 * `niwaki_runtime.heads`. */

import { CallError, validNames } from "./errors.js";
import { crossing, normalQuantile } from "./gaussian.js";

/** The values at `levels`, rising; straight lines between them, and exponential tails beyond. */
class Quantiles {
  constructor({ levels = [0.05, 0.25, 0.5, 0.75, 0.95] }) {
    const rising = levels.every((level, i) => level > (i ? levels[i - 1] : 0.0) && level < 1.0);
    if (levels.length < 2 || !rising) {
      throw new CallError(
        `the levels of quantiles must rise within (0, 1), at least two, not (${levels.join(", ")})`,
      );
    }
    this.levels = levels;
    this.parameters = levels.length;
  }

  quantile(q, u) {
    const tau = this.levels, count = tau.length, first = tau[0], last = tau[count - 1];
    const right = Math.min(Math.max(tau.filter((level) => level < u).length, 1), count - 1), left = right - 1;
    const slope = (q[right] - q[left]) / (tau[right] - tau[left]);
    if (u < first) return q[0] + first * slope * Math.log(u / first);
    if (u > last) return q[count - 1] - (1 - last) * slope * Math.log((1 - u) / (1 - last));
    return q[left] + slope * (u - tau[left]);
  }
}

/** `components` logistic distributions: log-weights up to a constant, then means, then log-scales. */
class Mixture {
  constructor({ components = 3 }) {
    if (!(components >= 1)) throw new CallError(`a mixture needs at least one component, not ${components}`);
    this.components = components;
    this.parameters = 3 * components;
  }

  quantile(said, u) {
    const k = this.components, weights = said.slice(0, k), means = said.slice(k, 2 * k);
    const most = Math.max(...weights), p = weights.map((w) => Math.exp(w - most));
    const sum = p.reduce((a, b) => a + b, 0.0), scales = said.slice(2 * k).map(Math.exp);
    const each = means.map((mean, i) => mean + scales[i] * (Math.log(u) - Math.log1p(-u)));
    // σ(z) = (1 + tanh(z/2))/2, which does not overflow
    const share = (x) => {
      const parts = p.map((w, i) => (w / sum) * 0.5 * (1 + Math.tanh((0.5 * (x - means[i])) / scales[i])));
      return parts.reduce((a, b) => a + b, 0.0);
    };
    return crossing((x) => share(x) < u, Math.min(...each), Math.max(...each));
  }
}

/** A normal distribution: its mean, then its log-deviation. */
class Gaussian {
  parameters = 2;

  quantile([mean, logDeviation], u) {
    return mean + Math.exp(logDeviation) * normalQuantile(u);
  }
}

const HEADS = { quantiles: Quantiles, mixture: Mixture, gaussian: Gaussian };

/** The head of a manifest's record. Raises CallError for an unknown kind. */
export function headFromJson({ kind, ...fields }) {
  if (!(kind in HEADS)) throw new CallError(`this runtime knows no head '${kind}'; ${validNames(Object.keys(HEADS))}`);
  return Object.assign(new HEADS[kind](fields), { kind });
}

/** Values at probabilities: parameters (n, …, parameters), a Tensor, and u, one for each value of (n, …). */
export function quantiles(head, { data }, u) {
  const size = head.parameters;
  return u.map((share, i) => head.quantile(Array.from(data.subarray(i * size, (i + 1) * size)), share));
}

/** The normal distribution, in float64. */

/** erf x = 2/√π e^(−x²) Σ 2ᵏ x^(2k+1) / (1·3·5···(2k+1)) (Abramowitz & Stegun 7.1.6): no two terms cancel. */
export function erf(x) {
  if (Math.abs(x) > 6.0) return Math.sign(x); // to the last bit
  let term = x, sum = x;
  for (let k = 1; Math.abs(term) > 1e-17 * Math.abs(sum); k++) {
    term *= (2.0 * x * x) / (2 * k + 1);
    sum += term;
  }
  return (2.0 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

const phi = (z) => 0.5 * (1.0 + erf(z / Math.SQRT2));

/** Φ(z), within (0, 1). */
export const normalShare = (z) => Math.min(Math.max(phi(z), 2 ** -33), 1.0 - 2 ** -33);

/** Where a rising function, given as `below(x)`, crosses what is wanted, by halving [low, high] as often as a
 * float64 has bits. */
export function crossing(below, low, high) {
  for (let i = 0; i < 52; i++) {
    const middle = 0.5 * (low + high);
    if (below(middle)) low = middle;
    else high = middle;
  }
  return 0.5 * (low + high);
}

/** Φ⁻¹(u) for u in (0, 1). */
export const normalQuantile = (u) => crossing((z) => phi(z) < u, -8.0, 8.0);

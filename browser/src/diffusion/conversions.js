/** What a network may be asked to say of x = α x₀ + σ ε: (x, out, α, σ) → [x₀, ε]. */

export const CONVERSIONS = {
  /** x₀ = (x − σ ε) / α, which pure noise (α = 0) does not determine. */
  epsilon: (x, out, a, s) => [x.minus(out.times(s)).over(a), out],
  /** ε = (x − α x₀) / σ */
  x0: (x, out, a, s) => [out, x.minus(out.times(a)).over(s)],
  /** x₀ = α x − σ v and ε = σ x + α v, where α² + σ² = 1 (Salimans & Ho 2022, Section 4). */
  v: (x, out, a, s) => [x.times(a).minus(out.times(s)), x.times(s).plus(out.times(a))],
  /** u = ε − x₀, hence x₀ = (x − σ u) / (α + σ) and ε = (x + α u) / (α + σ). */
  velocity: (x, out, a, s) => [x.minus(out.times(s)).over(a + s), x.plus(out.times(a)).over(a + s)],
};

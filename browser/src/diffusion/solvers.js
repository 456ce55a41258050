/**
 * Diffusion solvers, as `niwaki_runtime.samplers.solvers` has them: the same formulas in the same order.
 *
 *   run(model, x, levels, fresh, raised) → x₀
 *
 * model:  (x, level index, raised) → predicted [x₀, ε], waited for
 * levels: [α, σ] at each visited time and at the end: one more than there are steps
 * fresh:  draw → standard normal noise like x
 * raised: of solvers that churn: for each step a level with more noise, or null where none is added
 */

/** Song, Meng & Ermon 2021, Equations 12 and 16; η = 0 is deterministic, η = 1 is DDPM's posterior. */
export function ddim(eta, large = false) {
  return async (model, x, levels, fresh) => {
    for (let i = 0; i + 1 < levels.length; i++) {
      const [a, s] = levels[i], [aNext, sNext] = levels[i + 1];
      const [x0, eps] = await model(x, i);
      const step = Math.sqrt(Math.max(1.0 - (a / aNext) ** 2, 0.0)); // √β of all between the two times
      const noise = eta * (sNext / s) * step; // σ(η) = η √((1−ᾱ')/(1−ᾱ)) √(1−ᾱ/ᾱ')
      x = x0.times(aNext).plus(eps.times(Math.sqrt(Math.max(sNext ** 2 - noise ** 2, 0.0))));
      if (noise > 0.0) x = x.plus(fresh(i).times(large ? step : noise));
    }
    return x;
  };
}

/** x with the noise of the raised level, that level, and what the model says there: Karras et al. 2022,
 * Algorithm 2, lines 4 to 6, on any path. */
async function churned(model, x, i, levels, fresh, raised) {
  const hat = raised[i];
  if (!hat) return [x, levels[i], ...(await model(x, i))];
  const [a, s] = levels[i], [aHat, sHat] = hat;
  const added = Math.sqrt(Math.max(sHat ** 2 - ((aHat * s) / a) ** 2, 0.0));
  const higher = x.times(aHat / a).plus(fresh(i).times(added));
  return [higher, hat, ...(await model(higher, i, true))];
}

/** Euler's method on any path: x + Δα x₀ + Δσ ε = α' x₀ + σ' ε. */
async function euler(model, x, levels, fresh, raised) {
  for (let i = 0; i + 1 < levels.length; i++) {
    const [aNext, sNext] = levels[i + 1];
    const [, , x0, eps] = await churned(model, x, i, levels, fresh, raised);
    x = x0.times(aNext).plus(eps.times(sNext));
  }
  return x;
}

/** Heun's method, Karras et al. 2022, Algorithms 1 and 2, on any path. The last step is Euler's. */
async function heun(model, start, levels, fresh, raised) {
  let current = start;
  for (let i = 0; i + 1 < levels.length; i++) {
    const [aNext, sNext] = levels[i + 1];
    const [x, [a, s], x0, eps] = await churned(model, current, i, levels, fresh, raised);
    let ahead = x0.times(aNext).plus(eps.times(sNext));
    if (i + 2 < levels.length) {
      const [x0Next, epsNext] = await model(ahead, i + 1);
      ahead = ahead.plus(x).plus(x0Next.times(aNext - a)).plus(epsNext.times(sNext - s)).times(0.5);
    }
    current = ahead;
  }
  return current;
}

/** Heun's method on x/α in σ/α, of which d(x/α) = ε d(σ/α). A step from pure noise is Euler's. */
async function heunRatio(model, x, levels) {
  for (let i = 0; i + 1 < levels.length; i++) {
    const [a, s] = levels[i], [aNext, sNext] = levels[i + 1];
    const [x0, eps] = await model(x, i);
    let ahead = x0.times(aNext).plus(eps.times(sNext));
    if (i + 2 < levels.length) {
      const [, epsNext] = await model(ahead, i + 1);
      const half = a ? 0.5 * (sNext - (aNext * s) / a) : 0.0;
      ahead = ahead.plus(epsNext.minus(eps).times(half));
    }
    x = ahead;
  }
  return x;
}

/** λ = log(α/σ); −∞ for pure noise. */
const logRatio = ([a, s]) => (a ? Math.log(a / s) : -Infinity);

/** DPM-Solver++(2M), Lu et al. 2022, Algorithm 2: multistep on x₀ in λ, whose step is h. */
async function dpmpp2m(model, x, levels) {
  let previous = null, hPrevious = 0.0;
  for (let i = 0; i + 1 < levels.length; i++) {
    const [, s] = levels[i], [aNext, sNext] = levels[i + 1];
    const [x0] = await model(x, i);
    if (sNext === 0.0) {
      x = x0.times(aNext); // h = ∞
      continue;
    }
    const h = logRatio(levels[i + 1]) - logRatio(levels[i]);
    let d = x0;
    if (previous !== null && hPrevious < Infinity) {
      const r = hPrevious / h;
      d = x0.times(1.0 + 0.5 / r).minus(previous.times(0.5 / r));
    }
    x = x.times(sNext / s).minus(d.times(aNext * Math.expm1(-h)));
    [previous, hPrevious] = [x0, h];
  }
  return x;
}

/** UniPC of order 2 with B₂(h) = e^h − 1 on x₀, Zhao et al. 2023, Algorithms 5 and 6. */
async function unipc(model, x, levels) {
  let before = [], start = x; // [λ, x₀] of the levels behind, the latest last; where the step began
  for (let i = 0; i + 1 < levels.length; i++) {
    const [, s] = levels[i], [aNext, sNext] = levels[i + 1];
    const [x0] = await model(x, i);
    const lambda = logRatio(levels[i]);
    if (i) x = corrected(start, x0, before, levels[i - 1], levels[i]);
    before = [...before.slice(-1), [lambda, x0]];
    start = x;
    if (sNext === 0.0) {
      x = x0.times(aNext); // h = ∞
      continue;
    }
    const h = logRatio(levels[i + 1]) - lambda;
    x = x.times(sNext / s).minus(x0.times(aNext * Math.expm1(-h)));
    if (before.length === 2 && Number.isFinite(before[0][0]) && i + 2 < levels.length) {
      const r = (before[0][0] - lambda) / h;
      x = x.minus(before[0][1].minus(x0).times(aNext * Math.expm1(-h) * (0.5 / r)));
    }
  }
  return x;
}

/** UniC: the step from level `at`, where x was, to level `end`, where the model says `now` (Algorithm 5). */
function corrected(x, now, before, [, s], [aEnd, sEnd]) {
  const [lambda, x0] = before.at(-1);
  const h = logRatio([aEnd, sEnd]) - lambda;
  const weight = aEnd * Math.expm1(-h); // −α B₂
  let bend = now.minus(x0).times(0.5);
  if (before.length === 2 && Number.isFinite(before[0][0])) {
    const r = (before[0][0] - lambda) / h, e = Math.expm1(-h);
    // R ρ = b with R = [[1, 1], [r, 1]], b = (φ₂, 2 φ₃) / φ₁ in the notation of Appendix E, at −h
    const one = (e / -h - 1.0) / e, two = (2.0 * ((e / -h - 1.0) / -h - 0.5)) / e;
    const rho = (one - two) / (1.0 - r);
    bend = before[0][1].minus(x0).times(rho / r).plus(now.minus(x0).times(one - rho));
  }
  return x.times(sEnd / s).minus(x0.times(weight)).minus(bend.times(weight));
}

/** Multistep consistency sampling, Song et al. 2023, Algorithm 1: jump to the end, and add fresh noise. */
async function consistency(model, x, levels, fresh) {
  for (let i = 0; i + 1 < levels.length; i++) {
    const [aNext, sNext] = levels[i + 1];
    const [x0] = await model(x, i);
    x = sNext === 0.0 ? x0 : x0.times(aNext).plus(fresh(i).times(sNext));
  }
  return x;
}

/** perStep: calls of the model in each step but the last; ancestral: adds the noise of a forward process. */
export const SOLVERS = {
  ddim: { run: ddim(0.0), perStep: 1 },
  ddpm: { run: ddim(1.0), perStep: 1, ancestral: true },
  ddpm_large: { run: ddim(1.0, true), perStep: 1, ancestral: true },
  euler: { run: euler, perStep: 1, churns: true },
  heun: { run: heun, perStep: 2, churns: true },
  heun_ratio: { run: heunRatio, perStep: 2 },
  dpmpp_2m: { run: dpmpp2m, perStep: 1 },
  unipc: { run: unipc, perStep: 1 },
  consistency: { run: consistency, perStep: 1 },
};

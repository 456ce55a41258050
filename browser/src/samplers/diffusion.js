/** Sampling from a denoiser: process, prediction type and guidance around a solver. */

import "../diffusion/karras.js";
import "../diffusion/linear.js";
import "../diffusion/variance_preserving.js";
import { freeShare, guidedOutput, limited } from "../diffusion/guidance.js";
import { Process, processFromJson } from "../diffusion/process.js";
import { ddim, SOLVERS } from "../diffusion/solvers.js";
import { CallError, validNames } from "../errors.js";
import { registerSampler, Sampler } from "../sampler.js";
import { Tensor } from "../tensor.js";

const OF_PROCESS = ["schedule", "train_steps", "spacing", "offset", "last"];
const MOST_CHURN = Math.sqrt(2.0) - 1.0;

const within = (t, interval) => interval === null || (interval[0] <= t && t <= interval[1]);

/** Noise to sample in `steps` steps of a solver around graph(x, t, ...conditions); options as the manifest's. */
export class Diffusion extends Sampler {
  static kind = "diffusion";
  static fields = {
    shape: [1], graph: "denoiser", solver: "ddim", steps: 30, process: { kind: "variance_preserving" },
    prediction: "v", clip: 1.0, consistent: true, start_scale: 1.0, conditions: [], null: {}, encoders: {},
    guidance: 1.0, guidance_batched: true, self_conditioning: false, learned_variance: false, threshold: 0.0,
    guide: "", guidance_interval: null, churn: 0.0, churn_interval: null, churn_noise: 1.0, eta: 0.0, start: "",
    also: [], also_weights: [], schedule: null, train_steps: null, spacing: null, offset: null, last: null,
  };

  constructor(fields) {
    super(fields);
    if (!(this.process instanceof Process)) this.process = processFromJson(this.process);
    const given = OF_PROCESS.filter((name) => this[name] !== null);
    if (given.length) {
      this.process = this.process.override(Object.fromEntries(given.map((name) => [name, this[name]])));
      for (const name of given) this[name] = null;
    }
    this.check();
  }

  check() {
    if (!(this.solver in SOLVERS)) {
      throw new CallError(`there is no solver '${this.solver}'; ${validNames(Object.keys(SOLVERS))}`);
    }
    if ((SOLVERS[this.solver].ancestral || this.eta) && !this.process.preservesVariance) {
      throw new CallError(
        `the solver '${this.solver}' adds the noise of a variance-preserving process, and this one is `
        + `'${this.process.kind}'; choose ddim, euler, heun or dpmpp_2m`,
      );
    }
    this.process.conversion(this.prediction); // raises for one that there is not
    if (!this.onlyAsked && !this.guide && !this.conditions.some((name) => name in this.null)) {
      throw new CallError("guidance needs a condition with a null value, and this model has none");
    }
    if (this.eta && this.solver !== "ddim") {
      throw new CallError(`eta is an option of the solver 'ddim', not of '${this.solver}'`);
    }
    if (this.churn && !SOLVERS[this.solver].churns) {
      throw new CallError(`the solver '${this.solver}' has no churn; choose euler or heun`);
    }
    this.process.times(this.steps); // raises for a bad number
  }

  async run(graphs, noise, conditions, progress) {
    const { process } = this;
    const scale = this.start_scale * process.startScale(this.steps);
    const drawn = this.start ? conditions[this.start] : noise.normal(this.shape);
    const x = scale === 1.0 ? drawn : drawn.times(scale);
    const times = process.times(this.steps), levels = process.levels(this.steps), hats = this.hats();
    const ask = await this.asking(graphs, noise, conditions), total = this.evaluations();
    let done = 0, share = null;

    const model = async (at, i, raised = false) => {
      const [t, level] = raised ? hats[i] : [times[i], levels[i]];
      const [x0, eps, further] = await ask(at, t, level);
      share = this.learned_variance ? further[0] : null;
      done += this.cost(t);
      await progress(done, total);
      return [x0, eps];
    };

    const fresh = (draw) => {
      const normals = noise.normal(this.shape, { stream: "step", draw });
      if (this.solver === "ddpm" && share !== null) {
        // β̃ = (σ'/σ)² β, so √Σ = √β̃ (σ/σ')^v.
        const ratio = Math.fround(levels[draw][1] / levels[draw + 1][1]);
        return normals.with(share, (value, v) => value * Math.fround(ratio ** v));
      }
      return this.churn && this.churn_noise !== 1.0 ? normals.times(this.churn_noise) : normals;
    };

    const run = this.eta ? ddim(this.eta) : SOLVERS[this.solver].run;
    return run(model, x, levels, fresh, hats.map((hat) => hat && hat[1]));
  }

  /** async (x, t, [α, σ]) → [x₀, ε, what else the network says]. */
  async asking(graphs, noise, conditions) {
    const { process } = this, read = process.conversion(this.prediction);
    const output = await guidedOutput(this, graphs, noise, conditions);
    let before = null;
    return async (x, t, [a, s]) => {
      const more = this.self_conditioning ? [before ?? Tensor.full(x.shape, 0.0)] : [];
      const given = process.networkInput(x, a, s);
      const [out, ...further] = await output(given, process.networkTime(t), this.weights(t), ...more);
      let [x0, eps] = read(x, out, a, s);
      if (this.clip > 0.0) {
        x0 = limited(x0, this.clip, this.threshold);
        if (this.consistent) eps = x.minus(x0.times(a)).over(s);
      }
      before = x0;
      return [x0, eps, further];
    };
  }

  /** For each step the time and level with more noise at which it begins, σ̂ = (1 + γ) σ (Karras et al. 2022,
   * Algorithm 2, line 4), or null. */
  hats() {
    const gamma = Math.min(this.churn / this.steps, MOST_CHURN);
    return this.process.times(this.steps).map((t) => {
      const [a, s] = this.process.alphaSigma(t);
      if (!gamma || !a || !within(t, this.churn_interval)) return null;
      const raised = this.process.timeAt(((1.0 + gamma) * s) / a);
      return raised > t ? [raised, this.process.alphaSigma(raised)] : null;
    });
  }

  /** Whether the network is asked for `conditions` alone, all the way. */
  get onlyAsked() {
    return this.guidance === 1.0 && !this.also.length;
  }

  weights(t) {
    const all = within(t, this.guidance_interval);
    return all ? [this.guidance, ...this.also_weights] : [1.0, ...this.also.map(() => 0.0)];
  }

  /** Calls of the network at a time of the process: two where it is guided by one condition. */
  cost(t) {
    const weights = this.weights(t);
    return [...weights, freeShare(weights)].filter((share) => share !== 0.0).length;
  }

  evaluations() {
    const { perStep } = SOLVERS[this.solver], hats = this.hats();
    return this.process.times(this.steps).reduce((sum, t, i) => {
      const further = i ? (perStep - 1) * this.cost(t) : 0;
      return sum + this.cost(hats[i] ? hats[i][0] : t) + further;
    }, 0);
  }

  graphsUsed() {
    return [...new Set([...Object.values(this.encoders), this.graph, ...(this.guide ? [this.guide] : [])])];
  }
}

registerSampler(Diffusion);

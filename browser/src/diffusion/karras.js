/** The variance-exploding path of EDM and its preconditioning (Karras, Aittala, Aila & Laine 2022, Table 1). */

import { checkSteps, Process, registerProcess } from "./process.js";

const cSkip = (s, data) => data ** 2 / (s ** 2 + data ** 2);
const cOut = (s, data) => (s * data) / (s ** 2 + data ** 2) ** 0.5;
const cIn = (s, data) => 1.0 / (s ** 2 + data ** 2) ** 0.5;

/** x = x₀ + σ ε; t is σ. The network sees c_in x and ln(σ)/4, and says F (`edm`), ε or x₀. */
export class Karras extends Process {
  static kind = "karras";
  static predictions = ["edm", "epsilon", "x0"];
  static fields = {
    sigma_min: 0.002, sigma_max: 80.0, rho: 7.0, spacing: "karras", sigma_data: 0.5, mean: -1.2, std: 1.2,
  };

  alphaSigma(t) {
    return [1.0, Math.max(t, 0.0)];
  }

  timeAt(ratio) {
    return ratio;
  }

  /** (σ_max^(1/ρ) + i/(N−1) (σ_min^(1/ρ) − σ_max^(1/ρ)))^ρ (Equation 5). */
  times(steps) {
    checkSteps(steps);
    const first = this.sigma_max ** (1 / this.rho), last = this.sigma_min ** (1 / this.rho);
    const intervals = this.spacing === "karras" ? Math.max(steps - 1, 1) : steps;
    const time = (i) => Math.max(first + (i / intervals) * (last - first), 0.0) ** this.rho;
    return Array.from({ length: steps }, (_, i) => (i ? time(i) : this.sigma_max));
  }

  networkTime(t) {
    return 0.25 * Math.log(t);
  }

  networkInput(x, a, s) {
    return x.times(cIn(s, this.sigma_data));
  }

  startScale() {
    return this.sigma_max;
  }

  conversion(prediction) {
    const read = super.conversion(prediction), data = this.sigma_data;
    if (read) return read;
    return (x, out, a, s) => { // x₀ = D = c_skip x + c_out F (Equation 7), ε = (x − D) / σ
      const x0 = x.times(cSkip(s, data)).plus(out.times(cOut(s, data)));
      return [x0, x.minus(x0).over(s)];
    };
  }
}

registerProcess(Karras);

/** The straight path of flow matching (Lipman et al. 2023; Liu, Gong & Liu 2023). */

import { checkSteps, Process, registerProcess } from "./process.js";

const CLOCK = 1000.0; // the network's clock runs from 0 to this

/** x_t = (1 − t) x₀ + t ε with t in 0 … 1, of which the velocity is dx/dt = ε − x₀. */
export class LinearPath extends Process {
  static kind = "linear";
  static predictions = ["velocity", "x0"];
  static fields = { shift: 1.0, density: "uniform", spacing: "trailing", least: 0.0 };

  alphaSigma(t) {
    const s = Math.max(t, 0.0);
    return [1.0 - s, s];
  }

  timeAt(ratio) {
    return ratio < Infinity ? ratio / (1.0 + ratio) : 1.0;
  }

  /** Even from 1, and then k t / (1 + (k − 1) t): nearer to the noise for k > 1 (Esser et al. 2024, Eq. 23). */
  times(steps) {
    checkSteps(steps);
    const [end, intervals] = this.spacing === "trailing" ? [0.0, steps] : [this.least, Math.max(steps - 1, 1)];
    const shifted = (t) => (this.shift * t) / (1.0 + (this.shift - 1.0) * t);
    return Array.from({ length: steps }, (_, i) => shifted(1.0 - ((1.0 - end) * i) / intervals));
  }

  networkTime(t) {
    return CLOCK * t;
  }
}

registerProcess(LinearPath);

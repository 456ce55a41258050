/** The path from data to noise, x_t = α_t x₀ + σ_t ε: what every diffusion process is. */

import { CallError, validNames } from "../errors.js";
import { CONVERSIONS } from "./conversions.js";

/** The time that lies behind the last one visited, where sampling ends. All other times are 0 or more. */
export const END = -1.0;

const PROCESSES = new Map();

/** Make a process readable from JSON by its `kind`. */
export function registerProcess(cls) {
  PROCESSES.set(cls.kind, cls);
}

/** The process of a record. Raises CallError for an unknown kind or option. */
export function processFromJson(record) {
  const { kind, ...fields } = record;
  if (!PROCESSES.has(kind)) {
    throw new CallError(`the browser runtime has no diffusion process '${kind}'; ${validNames(PROCESSES.keys())}`);
  }
  return new (PROCESSES.get(kind))(fields);
}

/** Subclasses have `kind`, `predictions` (what a network may say), `fields` (options with their defaults). */
export class Process {
  static preservesVariance = false;

  constructor(fields = {}) {
    const { kind, fields: known } = new.target;
    for (const name of Object.keys(fields)) {
      if (!(name in known)) {
        throw new CallError(`the process '${kind}' has no option '${name}'; ${validNames(Object.keys(known))}`);
      }
    }
    Object.assign(this, known, fields);
  }

  override(changes) {
    return new this.constructor({ ...this, ...changes });
  }

  get kind() {
    return this.constructor.kind;
  }

  get preservesVariance() {
    return this.constructor.preservesVariance;
  }

  /** How many times there are in training; 0 for a continuum. */
  get timesteps() {
    return 0;
  }

  /** [α, σ] at each visited time and at the end: one more than there are steps. */
  levels(steps) {
    return [...this.times(steps), END].map((t) => this.alphaSigma(t));
  }

  /** What the network is told instead of `t`. */
  networkTime(t) {
    return t;
  }

  /** What the network is given instead of `x`. */
  networkInput(x) {
    return x;
  }

  /** Standard deviation of the noise that sampling starts from. */
  startScale() {
    return 1.0;
  }

  /** How a prediction type is read: (x, out, α, σ) → [x₀, ε]. Raises CallError for one that it does not have. */
  conversion(prediction) {
    const { predictions } = this.constructor;
    if (!predictions.includes(prediction)) {
      throw new CallError(
        `the process '${this.kind}' has no prediction '${prediction}'; choose ${predictions.join(", ")}`,
      );
    }
    return CONVERSIONS[prediction];
  }
}

/** Raises CallError for a number of steps that nobody can take. */
export function checkSteps(steps) {
  if (!(steps >= 1)) throw new CallError(`a sampler takes at least one step, not ${steps}`);
}

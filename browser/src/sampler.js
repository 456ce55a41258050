/** What every way of sampling shares: plain data in, samples out, through graphs that may run anywhere. */

import { CallError, validNames } from "./errors.js";

const SAMPLERS = new Map();

/** Make a sampler readable from JSON by its `kind`. */
export function registerSampler(cls) {
  SAMPLERS.set(cls.kind, cls);
}

/** Kinds that this runtime knows. */
export const samplerKinds = () => [...SAMPLERS.keys()].sort();

/** The sampler of a manifest's record. Raises CallError for an unknown kind or option. */
export function samplerFromJson(record) {
  const { kind, ...fields } = record;
  if (!SAMPLERS.has(kind)) {
    throw new CallError(
      `the browser runtime has no sampler '${kind}', it has ${samplerKinds().join(", ")}; `
      + "niwaki-runtime runs this program",
    );
  }
  return SAMPLERS.get(kind).fromFields(fields);
}

/**
 * How noise becomes samples. Subclasses have a `kind`, and `fields`: their options with the defaults.
 *
 *   run(graphs, noise, conditions, progress) → the samples (noise.n, ...shape), a Tensor
 *
 * graphs:     by name; each is an async function of Tensors that gives a list of Tensors
 * conditions: checked Tensors by name, one row per sample
 * progress:   called with (calls done, calls in all), and waited for
 */
export class Sampler {
  static fields = {};

  constructor(fields = {}) {
    const { kind, fields: known } = new.target;
    for (const [name, value] of Object.entries(fields)) {
      if (!(name in known)) {
        throw new CallError(`the sampler '${kind}' has no option '${name}'; ${validNames(Object.keys(known))}`);
      }
      const usual = known[name];
      const alike = usual === null || value === null || typeof value === typeof usual;
      if (!alike || (typeof value === "number" && Number.isNaN(value))) {
        throw new CallError(`'${name}' of the sampler '${kind}' must be a ${typeof usual}, not ${value}`);
      }
    }
    Object.assign(this, structuredClone(known), fields);
  }

  static fromFields(fields) {
    return new this(fields);
  }

  /** A copy with options changed. Raises CallError for one that there is not. */
  override(changes) {
    const names = Object.keys(this.constructor.fields);
    return new this.constructor({ ...Object.fromEntries(names.map((name) => [name, this[name]])), ...changes });
  }

  /** Names of what `override` may change. */
  options() {
    return Object.keys(this.constructor.fields);
  }

  /** The samplers that follow each other; a plain one is its own only part. */
  parts() {
    return [this];
  }

  /** Names of the graphs that sampling calls. */
  graphsUsed() {
    return [this.graph];
  }

  /** Calls of the network for one sample. */
  evaluations() {
    return 1;
  }
}

/** A sampler made of several, its `inner` ones, whose options and graphs are its own. */
export class SamplerOfSeveral extends Sampler {
  options() {
    return this.inner.flatMap((one) => one.options());
  }

  parts() {
    return this.inner.flatMap((one) => one.parts());
  }

  graphsUsed() {
    return [...new Set(this.inner.flatMap((one) => one.graphsUsed()))];
  }
}

/** Samplers with options changed in each that has them. Raises CallError for one that none has; `whom` says of whom. */
export function overrideEach(samplers, changes, whom) {
  const names = new Set(samplers.flatMap((one) => one.options()));
  for (const name of Object.keys(changes)) {
    if (!names.has(name)) throw new CallError(`${whom} has an option '${name}'; ${validNames(names)}`);
  }
  return samplers.map((one) => {
    const known = one.options();
    return one.override(Object.fromEntries(Object.entries(changes).filter(([name]) => known.includes(name))));
  });
}

/** One condition after the other, as a graph is given them. */
export const asked = (conditions, names) => names.map((name) => conditions[name]);

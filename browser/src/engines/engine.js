/** Engines: what runs an ONNX graph, by name. */

import { CallError, validNames } from "../errors.js";

const ENGINES = new Map();

/**
 * Enter an engine: an async function of (graph's bytes, { weights, entry, options }) that gives an async
 * function of a list of Tensors, in the order of the graph's inputs, that gives the list of its outputs.
 *
 * weights: bytes of the files that the graph reads, by the path that it names
 * entry:   what the manifest says of the graph
 * options: what the caller of `load` said
 */
export function registerEngine(name, open) {
  ENGINES.set(name, open);
}

/** The engine of a name. Raises CallError for one that this runtime does not work with. */
export function engineNamed(name) {
  if (!ENGINES.has(name)) {
    throw new CallError(`the browser runtime has no engine '${name}'; ${validNames(ENGINES.keys())}`);
  }
  return ENGINES.get(name);
}

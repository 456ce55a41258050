/** onnxruntime-web: WebAssembly on the processor, which computes in the graph's own types, or WebGPU. */

import { CallError, NiwakiError } from "../errors.js";
import { Tensor, TYPES } from "../tensor.js";
import { registerEngine } from "./engine.js";

export const NAME = "onnxruntime-web";

/** Where an exported folder has the library: beside the folder of these modules. */
const LIBRARY = new URL("../../onnxruntime-web/", import.meta.url);

/**
 * options.library: the library's module, or where it lies (a URL of `ort.wasm.bundle.min.mjs`)
 * options.threads: of the processor; more than one needs a page that is isolated from other origins
 */
registerEngine(NAME, (bytes, given) => open(bytes, given, "ort.wasm.bundle.min.mjs", ["wasm"]));

/** What runs a graph, by the library's build `file` with its `providers`, the first of which that can. */
export async function open(bytes, { weights, entry, options }, file, providers) {
  const ort = await libraryOf(options.library ?? new URL(file, LIBRARY), options.threads ?? 1);
  let session;
  try {
    session = await ort.InferenceSession.create(bytes, {
      executionProviders: providers,
      logSeverityLevel: 3, // errors only: its warnings speak to developers of graphs
      externalData: Object.entries(weights).map(([path, data]) => ({ path, data })),
    });
  } catch (error) {
    throw new NiwakiError(`${NAME} cannot read ${entry.file}: ${error.message}`, { cause: error });
  }
  const inputs = [...entry.inputs, ...entry.state.map((state) => ({ name: state.input, dtype: state.dtype }))];
  const outputs = [...entry.outputs, ...entry.state.map((state) => state.output)];
  return async (tensors) => {
    if (tensors.length !== inputs.length) {
      const names = inputs.map((input) => input.name).join(", ");
      throw new CallError(`${entry.file} takes ${inputs.length} inputs (${names}), not ${tensors.length}`);
    }
    const feeds = Object.fromEntries(inputs.map(({ name, dtype }, i) => {
      const { data, shape } = tensors[i].as(TYPES[dtype]);
      return [name, new ort.Tensor(dtype, data, shape)];
    }));
    try {
      const made = await session.run(feeds, outputs);
      return outputs.map((name) => new Tensor(made[name].data, [...made[name].dims]));
    } catch (error) {
      throw new NiwakiError(`${NAME} cannot run ${entry.file}: ${error.message}`, { cause: error });
    }
  };
}

async function libraryOf(library, threads) {
  let ort = library;
  if (typeof library === "string" || library instanceof URL) {
    try {
      ort = await import(String(library));
    } catch (error) {
      throw new NiwakiError(`${NAME} does not lie at ${library}; npm install onnxruntime-web`, { cause: error });
    }
  }
  ort = ort.InferenceSession ? ort : ort.default;
  ort.env.wasm.numThreads = threads;
  return ort;
}

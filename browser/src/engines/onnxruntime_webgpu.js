/** onnxruntime-web on the graphics processor, by WebGPU: for float32 graphs. What it has no kernel for, rounding to
 * integers among it, goes to the processor and back. */

import { NiwakiError } from "../errors.js";
import { registerEngine } from "./engine.js";
import { open } from "./onnxruntime_web.js";

export const NAME = "onnxruntime-webgpu";

/**
 * options.library: the library's module, or where it lies (a URL of `ort.webgpu.bundle.min.mjs`)
 *
 * Raises NiwakiError where there is no WebGPU.
 */
registerEngine(NAME, async (bytes, given) => {
  if (!(await globalThis.navigator?.gpu?.requestAdapter())) {
    throw new NiwakiError("there is no WebGPU here; choose the engine 'onnxruntime-web', which uses the processor");
  }
  return open(bytes, given, "ort.webgpu.bundle.min.mjs", ["webgpu", "wasm"]);
});

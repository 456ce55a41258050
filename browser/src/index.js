/**
 * niwaki in the browser: bundles, sampled from with onnxruntime-web. The same seeds give the same samples as
 * `niwaki_runtime` does, up to the last bits of logarithm, sine and the network's own arithmetic.
 *
 *   import { load } from "./niwaki/index.js";
 *   const bundle = await load("digits.niwaki");
 *   const images = await bundle.sample(16, { seed: 0, inputs: { class: "3" } }); // images.data, images.shape
 */

import "./engines/onnxruntime_web.js";
import "./engines/onnxruntime_webgpu.js";
import "./samplers/autoregressive.js";
import "./samplers/autoregressive_flow.js";
import "./samplers/cascade.js";
import "./samplers/diffusion.js";
import "./samplers/masked.js";
import "./samplers/mean_flow.js";
import "./samplers/mixture.js";
import "./samplers/next_scale.js";
import "./samplers/noise_conditioned.js";
import "./samplers/one_shot.js";
import "./samplers/paths.js";
import "./samplers/raster.js";
import "./samplers/steps.js";
import "./samplers/style_based.js";

export { Bundle, load } from "./bundle.js";
export { registerEngine } from "./engines/engine.js";
export { BundleError, CallError, NiwakiError } from "./errors.js";
export { Noise, normal, raw, uniform } from "./noise.js";
export { readNpz } from "./npy.js";
export { registerSampler, Sampler, samplerKinds } from "./sampler.js";
export { Tensor } from "./tensor.js";
export { textDecoder } from "./text.js";

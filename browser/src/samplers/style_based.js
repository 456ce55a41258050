/** One call of a style-based generator: latents, noise of its layers, how far styles may lie from their mean. */

import { asked, registerSampler, Sampler } from "../sampler.js";
import { Tensor } from "../tensor.js";

/**
 * x = graph(z, noise, ...conditions, ψ).
 *
 * latent, noise: lengths of z and of the normals that the layers of one sample add
 * truncation:    ψ of w̄ + ψ (w − w̄) (Karras et al. 2019, Section 3)
 */
export class StyleBased extends Sampler {
  static kind = "style_based";
  static fields = { latent: 1, noise: 1, graph: "generator", conditions: [], truncation: 1.0 };

  async run(graphs, noise, conditions, progress) {
    const z = noise.normal([this.latent]), layers = noise.normal([this.noise], { draw: 1 });
    const psi = Tensor.full([noise.n, 1], this.truncation);
    const [out] = await graphs[this.graph](z, layers, ...asked(conditions, this.conditions), psi);
    await progress(1, 1);
    return out;
  }
}

registerSampler(StyleBased);

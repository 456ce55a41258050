/** One call of one graph: GAN generators, VAE decoders, inverse flows, translators. */

import { asked, registerSampler, Sampler } from "../sampler.js";

/**
 * x = graph(z, ...conditions), or graph(...conditions) where `latent` is null.
 *
 * latent:      shape of the noise of one sample, or null for a graph without noise
 * temperature: standard deviation of the noise; below 1 trades diversity for fidelity
 */
export class OneShot extends Sampler {
  static kind = "one_shot";
  static fields = { latent: null, graph: "generator", conditions: [], temperature: 1.0 };

  async run(graphs, noise, conditions, progress) {
    const inputs = asked(conditions, this.conditions);
    if (this.latent !== null) {
      const z = noise.normal(this.latent);
      inputs.unshift(this.temperature === 1.0 ? z : z.times(this.temperature));
    }
    const [out] = await graphs[this.graph](...inputs);
    await progress(1, 1);
    return out;
  }
}

registerSampler(OneShot);

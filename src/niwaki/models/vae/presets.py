"""VAEs that differ from `vae` by settings alone."""

from __future__ import annotations

from niwaki.models.registry import register_preset

register_preset("beta-vae", "vae", "β-VAE (Higgins et al. 2017): the KL term counts four times", beta=4.0)
register_preset(
    "beta-tc-vae",
    "vae",
    "β-TCVAE (Chen et al. 2018): only the total correlation of the latents counts six times",
    total_correlation=6.0,
)
register_preset(
    "iwae",
    "vae",
    "Importance-weighted autoencoder (Burda et al. 2016): a bound by eight samples",
    importance=8,
)
register_preset(
    "conditional-vae",
    "vae",
    "Conditional VAE (Sohn et al. 2015): encoder and decoder are told the class, whatever else the data have",
    conditioning={"columns": ("class",)},
)

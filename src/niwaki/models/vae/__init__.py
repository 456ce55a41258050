"""Variational and vector-quantized autoencoders."""

from niwaki.models.vae.vae import Vae, VaeConfig
from niwaki.models.vae.var import Var, VarConfig
from niwaki.models.vae.vqvae import VqVae, VqVaeConfig

__all__ = ["SpatialVae", "SpatialVaeConfig", "Vae", "VaeConfig", "Var", "VarConfig", "VqVae", "VqVaeConfig"]

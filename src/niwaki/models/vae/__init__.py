"""Variational autoencoders."""

from niwaki.models.vae.autoencoder import SpatialVae, SpatialVaeConfig
from niwaki.models.vae.vae import Vae, VaeConfig

__all__ = ["SpatialVae", "SpatialVaeConfig", "Vae", "VaeConfig"]

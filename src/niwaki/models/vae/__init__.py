"""Variational autoencoders."""

from niwaki.models.vae.vae import Vae, VaeConfig

__all__ = ["Vae", "VaeConfig"]

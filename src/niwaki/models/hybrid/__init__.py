"""Models of two families at once."""

from niwaki.models.hybrid.vae_gan import VaeGan, VaeGanConfig

__all__ = ["VaeGan", "VaeGanConfig"]

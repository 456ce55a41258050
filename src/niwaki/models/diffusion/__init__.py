"""Diffusion models."""

from niwaki.models.diffusion.ddpm import Ddpm, DdpmConfig

__all__ = ["Ddpm", "DdpmConfig"]

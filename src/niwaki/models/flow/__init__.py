"""Normalizing flows: invertible networks with an exact density."""

from niwaki.models.flow.realnvp import RealNvp, RealNvpConfig

__all__ = ["RealNvp", "RealNvpConfig"]

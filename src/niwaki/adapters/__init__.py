"""Other people's models."""

from niwaki.adapters.module import Adapted, AdaptedConfig, adapt, load_into

__all__ = ["Adapted", "AdaptedConfig", "adapt", "load_into"]

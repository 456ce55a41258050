"""Model families: `names()` lists them, `build` makes one, `save_model` and `load_model` keep it."""

from __future__ import annotations

from niwaki.models.io import load_model, save_model
from niwaki.models.registry import ModelConfig, build, built_in, config_of, names, register, registered

__all__ = [
    "ModelConfig",
    "build",
    "built_in",
    "config_of",
    "load_model",
    "names",
    "register",
    "registered",
    "save_model",
]

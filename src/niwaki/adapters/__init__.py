"""Other people's models."""

from niwaki.adapters.diffusers import AdaptedPipeline, adapt_pipeline, save_pipeline
from niwaki.adapters.language import LanguageConfig, LanguageModel, adapt_language_model
from niwaki.adapters.module import Adapted, AdaptedConfig, adapt, load_into

__all__ = [
    "Adapted",
    "AdaptedConfig",
    "AdaptedPipeline",
    "LanguageConfig",
    "LanguageModel",
    "adapt",
    "adapt_language_model",
    "adapt_pipeline",
    "load_into",
    "save_pipeline",
]

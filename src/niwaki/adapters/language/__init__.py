"""Causal language models of `transformers`, with a cache on the device."""

from niwaki.adapters.language.adapt import adapt_language_model
from niwaki.adapters.language.model import LanguageConfig, LanguageModel
from niwaki.adapters.language.scores import bits_per_token, bundle_bits_per_token, forced_log_probs

__all__ = [
    "LanguageConfig",
    "LanguageModel",
    "adapt_language_model",
    "bits_per_token",
    "bundle_bits_per_token",
    "forced_log_probs",
]

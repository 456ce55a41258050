"""Autoregressive models: one value after another, each given those before it."""

from niwaki.models.autoregressive.transformer import Transformer, TransformerConfig

__all__ = ["Transformer", "TransformerConfig"]

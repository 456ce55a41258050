"""Autoregressive models and forecasts: one value after another, or all at once, given those before."""

from niwaki.models.autoregressive.forecaster import Forecaster, ForecasterConfig
from niwaki.models.autoregressive.transformer import Transformer, TransformerConfig

__all__ = ["Forecaster", "ForecasterConfig", "Transformer", "TransformerConfig"]

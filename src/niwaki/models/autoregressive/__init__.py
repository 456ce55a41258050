"""Autoregressive models and forecasts: one value after another, or all at once, given those before."""

from niwaki.models.autoregressive.forecaster import Forecaster, ForecasterConfig
from niwaki.models.autoregressive.masked import MaskedDiffusion, MaskedDiffusionConfig
from niwaki.models.autoregressive.pixelcnn import PixelCnn, PixelCnnConfig
from niwaki.models.autoregressive.pretrained import read_transformer
from niwaki.models.autoregressive.recurrent import Recurrent, RecurrentConfig
from niwaki.models.autoregressive.state_space import StateSpace, StateSpaceConfig
from niwaki.models.autoregressive.transformer import Transformer, TransformerConfig

__all__ = [
    "Forecaster",
    "ForecasterConfig",
    "MaskedDiffusion",
    "MaskedDiffusionConfig",
    "PixelCnn",
    "PixelCnnConfig",
    "Recurrent",
    "RecurrentConfig",
    "StateSpace",
    "StateSpaceConfig",
    "Transformer",
    "TransformerConfig",
    "read_transformer",
]

"""What every model with a denoiser is told: its network, its conditions, how it samples."""

from __future__ import annotations

from abc import abstractmethod

from pydantic import Field

from niwaki.models.registry import ModelConfig
from niwaki_runtime.process import Process

__all__ = ["DenoiserConfig"]


class DenoiserConfig(ModelConfig):
    """
    widths:      channels at each size, finest first; as many sizes as there are widths
    blocks:      residual blocks at each size
    attention:   sizes (height of the feature map, in pixels) that get self-attention
    heads:       attention heads
    groups:      of every GroupNorm; widths are multiples of it, and stay so when pruned
    dropout:     inside residual blocks
    label_drop:  share of labels dropped in training, one coin per sample; above 0 the model can be guided
    conditional: use the labels; None is wherever there are any
    prediction:  what the network says (`Process.predictions`)
    solver, steps, guidance: how it samples unless told otherwise
    """

    widths: tuple[int, ...] = Field((64, 128), min_length=1)
    blocks: int = Field(2, ge=1)
    attention: tuple[int, ...] = (4, 8)
    heads: int = Field(4, ge=1)
    groups: int = Field(8, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    label_drop: float = Field(0.1, ge=0, lt=1)
    conditional: bool | None = None
    prediction: str = "x0"
    solver: str = "euler"
    steps: int = Field(30, ge=1)
    guidance: float = 1.0

    @abstractmethod
    def process(self) -> Process:
        """The path from data to noise."""

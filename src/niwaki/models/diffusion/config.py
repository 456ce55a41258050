"""What every model with a denoiser is told: its network, its conditions, how it samples."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

from pydantic import Field

from niwaki.models.config import Conditioning, ModelConfig
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
    prediction:  what the network says (`Process.predictions`)
    likelihood:  has the program `log_prob`, which asks a graph of its own, the network with its derivative
    sampling:    fields of `Diffusion` that differ from the `usual` ones: `{steps: 10, solver: heun}`
    conditioning: a tenth of the labels is dropped in training, so that the model can be guided
    usual:       solver and steps unless told otherwise
    """

    widths: tuple[int, ...] = Field((64, 128), min_length=1)
    blocks: int = Field(2, ge=1)
    attention: tuple[int, ...] = (4, 8)
    heads: int = Field(4, ge=1)
    groups: int = Field(8, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    prediction: str = "x0"
    likelihood: bool = Field(False, exclude_if=lambda value: not value)
    conditioning: Conditioning = Conditioning(drop=0.1)
    usual: ClassVar[dict[str, Any]] = {"solver": "euler", "steps": 30}

    @abstractmethod
    def process(self) -> Process:
        """The path from data to noise."""

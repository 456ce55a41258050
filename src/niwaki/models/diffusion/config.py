"""What every model with a denoiser is told: its network, its conditions, how it samples."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from niwaki.models.config import Conditioning, ModelConfig
from niwaki.models.diffusion.weak import WeakConfig
from niwaki.nn.alignment import AlignmentConfig
from niwaki_runtime.process import Process

__all__ = ["DenoiserConfig", "unless"]


def unless(usual: Any, **limits: Any) -> Any:
    """A setting that is left out of records where it is as usual, so that older models keep their records."""
    return Field(usual, exclude_if=lambda value: value == usual, **limits)


class DenoiserConfig(ModelConfig):
    """
    network:     by name, and settings of its own: `{name: dit, width: 128}`. `unet` has them here: `widths`,
                 `blocks`, `attention`, `heads`, `groups`, `dropout`, `patch`
    words:       width of the vectors in which the U-Net is told captions
    widths:      channels at each size, finest first; as many sizes as there are widths
    blocks:      residual blocks at each size
    attention:   sizes (height of the feature map, in patches) that get self-attention
    heads:       attention heads
    groups:      of every GroupNorm; widths are multiples of it, and stay so when pruned
    dropout:     inside residual blocks
    patch:       edge in pixels of what the U-Net treats as one place; 2 takes about a quarter of the time
    prediction:  what the network says (`Process.predictions`)
    weighting:   of noise levels in the loss: `process`, the process's own; `min_snr` (Hang et al. 2023);
                 `learned`, the process's over a mean error that a small network learns of the level (Karras
                 et al. 2024, "EDM2"), only in training
    min_snr_gamma: γ, the greatest signal-to-noise ratio that `min_snr` tells apart
    coupling:    of noise and samples in a batch: `none`; `ot`, by optimal transport; `c2ot`, by one that
                 minds the conditions (`niwaki.nn.couplings`)
    coupling_share: of pairs that `c2ot` lets differ in conditions that are no labels
    self_conditioning: the network is also given its last estimate of x₀, in training of half of the samples,
                 one coin each (Chen, Zhang & Hinton 2022)
    likelihood:  has the program `log_prob`, which asks a graph of its own, the network with its derivative
    weak:        a weaker denoiser that is trained along and guides this one: `{every: 4, widths: [24, 48]}`
                 (autoguidance; `WeakConfig`)
    repa:        a hidden layer is led to features of a network that was trained to look at the data, early in
                 training (REPA; `AlignmentConfig`)
    sampling:    fields of `Diffusion` that differ from the `usual` ones: `{steps: 10, solver: heun}`
    conditioning: a tenth of the labels is dropped in training, so that the model can be guided
    usual:       solver and steps unless told otherwise
    """

    network: dict[str, Any] = unless({"name": "unet"})
    words: int = unless(64, ge=2)
    widths: tuple[int, ...] = Field((64, 128), min_length=1)
    blocks: int = Field(2, ge=1)
    attention: tuple[int, ...] = (4, 8)
    heads: int = Field(4, ge=1)
    groups: int = Field(8, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    patch: int = unless(1, ge=1)
    prediction: str = "x0"
    weighting: Literal["process", "min_snr", "learned"] = unless("process")
    min_snr_gamma: float = unless(5.0, gt=0)
    coupling: Literal["none", "ot", "c2ot"] = unless("none")
    coupling_share: float = unless(0.05, gt=0, lt=1)
    self_conditioning: bool = unless(False)
    likelihood: bool = unless(False)
    weak: WeakConfig | None = unless(None)
    repa: AlignmentConfig | None = unless(None)
    conditioning: Conditioning = Conditioning(drop=0.1)
    usual: ClassVar[dict[str, Any]] = {"solver": "euler", "steps": 30}

    @model_validator(mode="after")
    def _differentiable(self) -> DenoiserConfig:
        if self.likelihood and (self.self_conditioning or self.learns_variance):
            raise ValueError(
                "'likelihood' asks for a network of x and t alone that says one thing: leave "
                "'self_conditioning' and 'learned_variance' out"
            )
        return self

    @property
    def learns_variance(self) -> bool:
        """Whether the network also says the variances of ancestral sampling."""
        return False

    @abstractmethod
    def process(self) -> Process:
        """The path from data to noise."""

"""Representation alignment (Yu et al. 2024, "Representation alignment for generation: training diffusion
transformers is easier than you think", REPA): a hidden layer of a denoiser is led to features of clean
samples that a network has which was trained to look at them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import CallError, DataSpec
from niwaki.nn.layers.shrinking import backbone

__all__ = ["Alignment", "AlignmentConfig", "alignment_loss", "features_map"]


class AlignmentConfig(BaseConfig):
    """
    weight:   λ of the term beside the denoiser's loss
    until:    share of the training after which it is left out: later it holds the denoiser back (Wang et al.
              2025, "REPA works until it doesn't")
    layer:    of the denoiser, as a path of its modules; None is one that its kind of network names
    hidden:   width of the projection head's two hidden layers
    encoder_width, encoder_features: of the network that looks at samples, as in its own recipe (`simclr`,
              `moco`); its weights come by `train.init_from: {features: "runs/digits-simclr:backbone"}` and
              stay as they are
    """

    weight: float = Field(0.5, gt=0)
    until: float = Field(0.4, gt=0, le=1)
    layer: str | None = None
    hidden: int = Field(256, ge=1)
    encoder_width: int = Field(64, ge=16, multiple_of=16)
    encoder_features: int = Field(128, ge=2)


def alignment_loss(wanted: Tensor, said: Tensor) -> Tensor:
    """−mean over places of cos(y, h) (Equation 8, without λ): −1 … 1. Gradients reach `said` alone.

    wanted: features y `(n, d, h, w)` of clean samples, brought to the places of `said` bilinearly
    said:   projections `(n, d, h', w')`
    """
    y = F.interpolate(wanted.detach().float(), said.shape[-2:], mode="bilinear", align_corners=False)
    return -F.cosine_similarity(y, said.float(), dim=1).mean()


class Alignment(nn.Module):
    """The head that projects a hidden layer, and what it is compared with. Neither is exported.

    spec:     of the samples, images `(C, H, W)`
    network:  the denoiser; it has `aligned`, (path of a layer, its channels), and `hidden_map`, which makes
              `(n, channels, h, w)` of what the layer says
    """

    def __init__(self, config: AlignmentConfig, spec: DataSpec, network: nn.Module) -> None:
        super().__init__()
        if not hasattr(network, "aligned") or len(spec.shape) != 3:
            raise CallError("'repa' is for denoisers of images by unet, magnitude-preserving or dit")
        of: Any = network
        usual, channels = of.aligned
        self.config, self.path = config, config.layer or str(usual)
        try:
            network.get_submodule(self.path)
        except AttributeError:
            raise CallError(
                f"'repa.layer': the denoiser has no layer '{self.path}'; take '{usual}'"
            ) from None
        dim = _width_of_map(backbone(spec, config.encoder_width, config.encoder_features))
        hidden = config.hidden
        self.head = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.SiLU(), nn.Conv2d(hidden, hidden, 1), nn.SiLU(),
            nn.Conv2d(hidden, dim, 1),
        )  # fmt: skip

    @contextmanager
    def listening(self, network: nn.Module) -> Iterator[list[Tensor]]:
        """Inside the block the list is given what the layer says, as maps, in every call of the network."""
        heard: list[Tensor] = []
        reads: Any = network

        def hear(_: nn.Module, __: Any, out: Any) -> None:
            heard.append(reads.hidden_map(out))

        hook = network.get_submodule(self.path).register_forward_hook(hear)
        try:
            yield heard
        finally:
            hook.remove()

    def loss(self, features: nn.Sequential, x: Tensor, heard: Tensor) -> Tensor:
        """λ times the loss of clean samples x `(n, C, H, W)` and the layer's map `(n, channels, h, w)`."""
        if heard.shape[1] != self.head[0].in_channels:
            raise CallError(
                f"'repa.layer': '{self.path}' has not the width of the layers that can be aligned"
            )
        with torch.no_grad():
            wanted = features_map(features, x)
        return self.config.weight * alignment_loss(wanted, self.head(heard))


def features_map(network: nn.Sequential, x: Tensor) -> Tensor:
    """What the last convolution of a backbone makes of x, `(n, d, h, w)`, behind its norm and ReLU."""
    for layer in network:
        if isinstance(layer, nn.AdaptiveAvgPool2d | nn.AvgPool2d | nn.Flatten):
            break
        x = layer(x)
    return x


def _width_of_map(network: nn.Sequential) -> int:
    return int([layer for layer in network if isinstance(layer, nn.Conv2d)][-1].out_channels)

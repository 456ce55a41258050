"""What a codec asks of a hierarchical VAE: its latents as the standard normals that they are made of."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from niwaki.core.contract import (
    ConditionSpec,
    GenerativeModel,
    Graph,
    Port,
    Program,
    Real,
    ValueSpec,
    View,
)
from niwaki.models.vae.hierarchy import BottomUp, TopDownLayer
from niwaki.models.vae.levels import LevelHead
from niwaki.nn.layers.images import to_signed
from niwaki_runtime.samplers import BitsBack

__all__ = ["CODEC", "Coding"]

CODEC = "codec"
"""The program by which a bundle codes samples (`niwaki_runtime.codec`)."""


class Coding(GenerativeModel):
    """The posterior of every layer in the coordinates in which its prior is standard normal.

    sizes: latents of each layer; at: the size of the image that each layer works at
    """

    encoder: BottomUp
    head: LevelHead
    classes: int
    conditions: Mapping[str, ConditionSpec]
    sizes: list[int]
    at: tuple[int, ...]

    @abstractmethod
    def path(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Standard normals `(n, Σ)` → what the head reads."""

    @abstractmethod
    def top_down(self) -> list[TopDownLayer]:
        """The stochastic layers."""

    @abstractmethod
    def split(self, z: Tensor) -> list[Tensor]:
        """`(n, Σ)` → latents of each layer `(n, latent, h, w)`."""

    @abstractmethod
    def enter(self, layer: int, h: Tensor | None, y: Tensor | None) -> Tensor | None:
        """The path as that layer finds it."""

    def standard_posterior(self, u: Tensor, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and log σ `(n, Σ)` of q(u | x): those of a layer given the u of the layers above it.

        z = m + s·u with the prior's m and s, so that q has the mean (μ − m)/s and the deviation σ/s.
        """
        features = self.encoder(to_signed(x, self.spec))
        h: Tensor | None = None
        means, deviations = [], []
        for i, (layer, part) in enumerate(zip(self.top_down(), self.split(u), strict=True)):
            h = self.enter(i, h, y)
            q = layer.posterior_of(h, features[self.at[i]])
            p = q.standard() if h is None else layer.prior_of(h)
            means.append(p.noise_of(q.mean).flatten(1))
            deviations.append((q.log_scale - p.log_scale).flatten(1))
            h = layer.add(h, p.at(part))
        return torch.cat(means, 1), torch.cat(deviations, 1)

    def level_weights(self, u: Tensor, y: Tensor | None = None) -> Tensor:
        """log P of every level of every value `(n, C·H·W, levels)`."""
        return self.head(self.path(u, y)).movedim(2, -1).flatten(1, 3)

    def coding_graphs(self) -> dict[str, Graph]:
        asked = (Port("class", (1,), "int64", high=self.classes),) if self.classes else ()
        u, x = Port("u", (1, sum(self.sizes))), Port("x", (1, *self.spec.shape))
        posterior = Graph(
            "encoder", View(self, "standard_posterior"), (u, x, *asked), ("mean", "log_deviation")
        )
        return {
            "posterior": posterior,
            "likelihood": Graph("decoder", View(self, "level_weights"), (u, *asked), ("weights",)),
        }

    def coding_program(self) -> Program:
        """`codec` gives the bits that a sample takes at one draw of the latents."""
        plan = BitsBack(
            groups=tuple(self.sizes),
            low=self.spec.low,
            high=self.spec.high,
            conditions=("x", *self.conditions),
        )
        bits = ValueSpec("vector", (), "", Real(-math.inf, math.inf), names=("bits",))
        return Program(plan, {"x": ConditionSpec(self.spec.x), **self.conditions}, bits)

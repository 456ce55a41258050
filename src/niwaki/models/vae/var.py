"""Next-scale prediction (Tian et al. 2024, "VAR"): images as codes at growing sizes, one size at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from niwaki.core.contract import CallError, Graph, Port, View
from niwaki.models.registry import register
from niwaki.models.vae.codebooks import CODEBOOKS
from niwaki.models.vae.coded_images import CodedImages, CodedImagesConfig
from niwaki.models.vae.scale_prior import ScalePrior
from niwaki.models.vae.scales import MultiScaleCodebook

__all__ = ["Var", "VarConfig"]


class VarConfig(CodedImagesConfig):
    """
    codebook: `averaged` (running means), or `learned` by its own loss; one, for all scales
    scales:   along the shorter side of the grid, growing up to the whole; None doubles from 1
    """

    codebook: Literal["averaged", "learned"] = "averaged"
    scales: tuple[int, ...] | None = None


@register("var")
class Var(CodedImages):
    """log p(codes | class) = Σ log p(codes of scale k | coarser ones, class), all of a scale at once.

    The first scale is one place or few: the image as a whole. Each further one says what is left of the
    encoder's map, and the sum of all is decoded. The prior sees that sum as far as it is known.

    config: VarConfig
    spec:   images `(C, H, W)` of at least 4×4
    """

    Config = VarConfig
    config: VarConfig
    codebook: MultiScaleCodebook
    prior: ScalePrior

    def make_codebook(self) -> MultiScaleCodebook:
        c, (height, width) = self.config, self.grid
        short = min(height, width)
        scales = c.scales
        if scales is None:
            scales = (*(2**i for i in range(short.bit_length()) if 2**i < short), short)
        rising = all(a < b for a, b in pairwise(scales))
        if not scales or scales[0] < 1 or not rising or scales[-1] != short:
            raise CallError(f"scales must grow up to {short}, the side of the grid, not {scales}")
        sizes = tuple((height * s // short, width * s // short) for s in scales)
        return MultiScaleCodebook(CODEBOOKS[c.codebook](c.codes, c.dim, c.beta), c.dim, sizes)

    def make_prior(self) -> ScalePrior:
        c = self.config
        return ScalePrior(
            c.codes, self.codebook.sizes, c.dim, self.classes, width=c.prior_width, heads=c.prior_heads,
            layers=c.prior_layers, dropout=c.prior_dropout,
        )  # fmt: skip

    @property
    def length(self) -> int:
        """Codes of an image: those of the coarsest scale, row by row, of the next …"""
        return self.codebook.length

    def decode(self, codes: Tensor, scales: int | None = None) -> Tensor:
        """Codes `(n, length)` → images in the spec's range `(n, C, H, W)`, by the first `scales` scales."""
        e = self.codebook.look_up(codes, scales)
        return self._draw(e.reshape(codes.shape[0], *self.grid, self.config.dim))

    def prior_loss(self, numbers: Tensor, asked: Sequence[Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        with torch.no_grad():
            told = self.codebook.told(numbers)
        return self.prior.loss(told, numbers, asked[0] if asked else None)

    def next_scale(self, codes: Tensor, scale: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Codes `(n, length)` of the scales before `scale` `(1,)`, whatever stands behind them; the class, if
        there is one, and caches → logits `(n, places of the largest scale, codes)`, of which the first are
        those of this scale, and new rows."""
        rows = self.codebook.rows[scale].squeeze(0)
        told = self.codebook.told(codes).index_select(1, rows)
        return self.prior.step(told, scale, rows, *rest)

    def prior_graph(self) -> Graph:
        ports = [
            Port("codes", (1, self.length), "int64", high=self.config.codes),
            Port("scale", (1,), "int64", batch_axis=None, high=len(self.codebook.sizes)),
        ]
        ports += self.condition_ports()
        return Graph("next_scale", View(self, "next_scale"), tuple(ports), ("logits",), self.prior.carried())

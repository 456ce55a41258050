"""A transformer that says masked codes from those that show, in any order (Chang et al. 2022, "MaskGIT")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.core.contract import Graph, Port
from niwaki.models.vae.asked_prior import AskedPrior
from niwaki.nn.layers.causal import BlockStyle, CausalBlock
from niwaki.nn.layers.dropout import Dropout
from niwaki.nn.masking import hide, masked_nll
from niwaki_runtime.samplers import Masked

__all__ = ["MaskedPrior"]

_STYLE = BlockStyle(feed_forward="gelu", bias=True, causal=False)


class MaskedPrior(AskedPrior):
    """log p(codes | asked) ≥ the mean over k of length/k · Σ_masked log p(code i | those that show, asked).

    The counts of masks are all equally likely in training, which makes that bound the loss; MaskGIT takes
    those of its cosine more often, which weighs it otherwise.

    codes:   how many there are; the number `codes` itself is the mask
    grid:    (height, width) of the places: codes of an image are read row by row
    classes, texts: as of `AskedPrior`
    steps:   in which codes are written
    """

    def __init__(
        self, codes: int, grid: tuple[int, int], classes: int, *,
        width: int, heads: int, layers: int, dropout: float, steps: int,
        texts: Sequence[tuple[int, ...]] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.codes, self.grid, self.length = codes, grid, grid[0] * grid[1]
        self.steps = steps
        self.token = nn.Embedding(codes + 1, width)
        self.place = nn.Embedding(self.length, width)
        self.prepare_label(classes, width)
        for table in (self.token, self.place, self.embed):
            if table is not None:
                nn.init.normal_(table.weight, std=0.5)
        self.drop = Dropout(dropout)
        self.blocks = nn.ModuleList(
            CausalBlock(width, heads, 4 * width, dropout, _STYLE) for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, codes)
        self.prepare_texts(texts, width, heads, layers)

    def forward(self, numbers: Tensor, *asked: Tensor) -> Tensor:
        """Codes `(n, length)`, masks among them → logits of every place `(n, length, codes)`."""
        added, words = self.told(asked)
        x = self.drop(self.token(numbers) + self.place.weight + added)
        for i, block in enumerate(self.blocks):
            x = block(self.look_up(x, i, words))
        return self.head(self.norm(x))

    def loss(self, numbers: Tensor, asked: Sequence[Tensor], rng: torch.Generator) -> dict[str, Tensor]:
        """−ELBO of codes `(n, length)`, in nats per code."""
        shown, hidden = hide(numbers, self.codes, rng)
        return {"bound": masked_nll(self(shown, *asked), numbers, hidden)}

    def graph(self, asked: Sequence[Port]) -> Graph:
        codes = Port("codes", (1, self.length), "int64", high=self.codes + 1)
        return Graph("predictor", self, (codes, *asked), ("logits",))

    def writing(self, asking: Mapping[str, Any]) -> Masked:
        """Codes of places that lie far apart together, by the graph `prior`; asking: fields of the sampler
        (`Asked.asking`)."""
        return Masked(
            self.length, self.codes, min(self.steps, self.length), "prior",
            schedule="cosine", order="halton", grid=self.grid, **asking,
        )  # fmt: skip

    def coding(self, asking: Mapping[str, Any]) -> None:
        """None: it says no code given those before it alone."""

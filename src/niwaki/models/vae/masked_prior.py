"""A transformer that says masked codes from those that show, in any order (Chang et al. 2022, "MaskGIT")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niwaki.core.contract import Graph, Port
from niwaki.nn.layers.causal import BlockStyle, CausalBlock
from niwaki.nn.layers.dropout import Dropout
from niwaki.nn.masking import hide, masked_nll
from niwaki_runtime.samplers import Masked

__all__ = ["MaskedPrior"]

_STYLE = BlockStyle(feed_forward="gelu", bias=True, causal=False)


class MaskedPrior(nn.Module):
    """log p(codes | class) ≥ the mean over k of length/k · Σ_masked log p(code i | those that show, class).

    The counts of masks are all equally likely in training, which makes that bound the loss; MaskGIT takes
    those of its cosine more often, which weighs it otherwise.

    codes:   how many there are; the number `codes` itself is the mask
    grid:    (height, width) of the places: codes of an image are read row by row
    classes: 0 without them
    steps:   in which codes are written
    """

    def __init__(
        self, codes: int, grid: tuple[int, int], classes: int, *,
        width: int, heads: int, layers: int, dropout: float, steps: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.codes, self.grid, self.length, self.classes = codes, grid, grid[0] * grid[1], classes
        self.steps = steps
        self.token = nn.Embedding(codes + 1, width)
        self.place = nn.Embedding(self.length, width)
        self.embed = nn.Embedding(classes, width) if classes else None
        for table in (self.token, self.place, self.embed):
            if table is not None:
                nn.init.normal_(table.weight, std=0.5)
        self.drop = Dropout(dropout)
        self.blocks = nn.ModuleList(
            CausalBlock(width, heads, 4 * width, dropout, _STYLE) for _ in range(layers)
        )
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, codes)

    def forward(self, numbers: Tensor, y: Tensor | None = None) -> Tensor:
        """Codes `(n, length)`, masks among them → logits of every place `(n, length, codes)`."""
        x = self.token(numbers) + self.place.weight
        if self.embed is not None:
            x = x + self.embed(y)[:, None]
        x = self.drop(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def loss(self, numbers: Tensor, y: Tensor | None, rng: torch.Generator) -> dict[str, Tensor]:
        """−ELBO of codes `(n, length)`, in nats per code."""
        shown, hidden = hide(numbers, self.codes, rng)
        return {"bound": masked_nll(self(shown, y), numbers, hidden)}

    def graph(self) -> Graph:
        ports = [Port("codes", (1, self.length), "int64", high=self.codes + 1)]
        if self.classes:
            ports.append(Port("class", (1,), "int64", high=self.classes))
        return Graph("predictor", self, tuple(ports), ("logits",))

    def writing(self, conditions: tuple[str, ...]) -> Masked:
        """Codes of places that lie far apart together, by the graph `prior`."""
        return Masked(
            self.length, self.codes, min(self.steps, self.length), "prior", conditions,
            schedule="cosine", order="halton", grid=self.grid,
        )  # fmt: skip

    def coding(self, conditions: tuple[str, ...]) -> None:
        """None: it says no code given those before it alone."""

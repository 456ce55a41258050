"""The networks in couplings of images: what decides how values move."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.nn.layers.attention import Attention2d
from niwaki.nn.layers.blocks import near_zero_init

__all__ = ["AttentiveNetwork", "ConvNetwork"]


class ConvNetwork(nn.Module):
    """3×3, 1×1 and 3×3 convolutions (Kingma & Dhariwal 2018, Section 4); the class enters the first.

    inputs, outputs: channels
    classes:         0 without them
    dropout:         share of hidden channels that are left out in training
    """

    def __init__(
        self, inputs: int, outputs: int, *, width: int, classes: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.embed = nn.Embedding(classes, width) if classes else None
        self.rest = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Dropout2d(dropout))
        self.last = near_zero_init(nn.Conv2d(width, outputs, 3, padding=1))
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=0.1)

    def forward(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.first(a)
        if self.embed is not None:
            h = h + self.embed(y)[:, :, None, None]
        out: Tensor = self.last(self.rest(h))
        return out


class _GatedConvolution(nn.Module):
    """x + a σ(b), both made of x by a 3×3 and a 1×1 convolution (Ho et al. 2019, Section 3.3)."""

    residual_ends: ClassVar[tuple[str, ...]] = ("value",)

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.conv, self.drop = nn.Conv2d(width, width, 3, padding=1), nn.Dropout2d(dropout)
        self.value, self.gate = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(F.silu(self.conv(F.silu(x))))
        return x + self.value(h) * self.gate(h).sigmoid()


class AttentiveNetwork(nn.Module):
    """Gated convolutions and self-attention over all places, in turn (Ho et al. 2019, Section 3.3).

    inputs, outputs: channels
    blocks, heads:   of attention; each follows a gated convolution
    classes:         0 without them
    seen:            channels of an image that is given instead of a class
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int,
        blocks: int,
        heads: int,
        classes: int = 0,
        seen: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.embed = nn.Embedding(classes, width) if classes else None
        self.see = nn.Conv2d(seen, width, 3, padding=1) if seen else None
        self.blocks = nn.Sequential(
            *(
                part
                for _ in range(blocks)
                for part in (_GatedConvolution(width, dropout), Attention2d(width, heads, groups=1))
            )
        )
        self.last = near_zero_init(nn.Conv2d(width, outputs, 3, padding=1))
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=0.1)

    def forward(self, a: Tensor, given: Tensor | None = None) -> Tensor:
        h = self.first(a)
        if self.embed is not None:
            h = h + self.embed(given)[:, :, None, None]
        if self.see is not None:
            h = h + self.see(given)
        out: Tensor = self.last(F.silu(self.blocks(h)))
        return out

"""Samples as sequences of patches, and the transformer's block that reads them (Dosovitskiy et al., "An image
is worth 16×16 words", ICLR 2021)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.core.contract import CallError, DataSpec
from niwaki.nn.layers.attention import attend
from niwaki.nn.layers.grids import grid_of

__all__ = ["Block", "choose_patch", "patchify", "positions", "unpatchify"]

_MOST = 1024
"""Patches in a sample: attention costs their square."""


def choose_patch(spec: DataSpec, asked: int | None, model: str) -> tuple[int, tuple[int, ...]]:
    """The side of a patch and the number of patches along each side of the grid.

    asked: the side; None takes the largest that leaves about eight patches along the longest side (of series
           and sequences 64), and is at least 2, where there is such a one
    Raises CallError for a side that does not divide the sample or leaves fewer than 4 or more than 1024
    patches.
    """
    sides = grid_of(spec, f"'{model}'").sides
    shown = "×".join(map(str, sides)) if len(sides) > 1 else f"{sides[0]} steps"
    divisors = [d for d in range(1, min(sides) + 1) if all(s % d == 0 for s in sides)]
    fit = [d for d in divisors if 4 <= math.prod(s // d for s in sides) <= _MOST]
    if not fit:
        raise CallError(f"'{model}': no patch cuts {shown} into 4 … {_MOST} equal parts; resize the data")
    if asked is None:
        wanted = max(2, -(-max(sides) // (64 if len(sides) == 1 else 8)))
        asked = max((d for d in fit if d <= wanted), default=fit[0])
    elif asked > min(sides):
        raise CallError(f"'{model}': patches of {asked} are larger than samples of {shown}")
    elif asked not in fit:
        raise CallError(
            f"'{model}': patches of {asked} do not cut {shown} into 4 … {_MOST} equal parts; set "
            f"'model.patch' to one of {', '.join(map(str, fit))}"
        )
    return asked, tuple(s // asked for s in sides)


def patchify(x: Tensor, patch: int) -> Tensor:
    """(n, C, H, W) → (n, H/p·W/p, p·p·C), row by row; (n, C, L) → (n, L/p, p·C); so in three dimensions."""
    n, c, *sides = x.shape
    rank = len(sides)
    cut = x.reshape(n, c, *(part for side in sides for part in (side // patch, patch)))
    grid, inside = [2 + 2 * i for i in range(rank)], [3 + 2 * i for i in range(rank)]
    return cut.permute(0, *grid, *inside, 1).flatten(1 + rank).flatten(1, rank)


def unpatchify(rows: Tensor, patch: int, grid: tuple[int, ...]) -> Tensor:
    """The inverse of `patchify`; grid: patches along each side."""
    rank = len(grid)
    cut = rows.reshape(len(rows), *grid, *[patch] * rank, -1)
    order = [axis for i in range(rank) for axis in (1 + i, 1 + rank + i)]
    sides = [g * patch for g in grid]
    return cut.permute(0, 1 + 2 * rank, *order).reshape(len(rows), -1, *sides)


def positions(grid: tuple[int, ...], width: int) -> Tensor:
    """Where each patch lies, as sines and cosines `(patches, width)`: each axis has an equal part of the
    width (Vaswani et al. 2017, section 3.5; in two dimensions as in He et al. 2022), zeros what is left over.
    """
    each = width // len(grid) // 2 * 2
    rate = 10_000.0 ** (-torch.arange(each // 2, dtype=torch.float64) / (each // 2))
    axes = torch.meshgrid(*(torch.arange(g, dtype=torch.float64) for g in grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * rate for axis in axes]
    found = torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], 1).float()
    return F.pad(found, (0, width - found.shape[1]))


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x), over (n, patches, width)."""

    residual_ends: ClassVar[tuple[str, ...]] = ("out", "mlp")

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.before = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.before(x)).chunk(3, dim=2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        x = x + self.out(attend(q, k, v, self.scale).transpose(1, 2).flatten(2))
        return x + self.mlp(x)

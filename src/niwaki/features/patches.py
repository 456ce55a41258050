"""Samples as sequences of patches, and the transformer's block that reads them (Dosovitskiy et al., "An image
is worth 16×16 words", ICLR 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError, DataSpec
from niwaki.nn.layers.attention import attend

__all__ = ["Block", "choose_patch", "patchify", "positions", "unpatchify"]

_MOST = 1024
"""Patches in a sample: attention costs their square."""


def choose_patch(spec: DataSpec, asked: int | None, model: str) -> tuple[int, tuple[int, ...]]:
    """The side of a patch and the number of patches along each spatial axis.

    asked: the side; None takes the largest that leaves about eight patches along the longest side (of series
           64), and is at least 2, where there is such a one
    Raises CallError for a side that does not divide the sample or leaves fewer than 4 or more than 1024
    patches.
    """
    sides = spec.shape[1:]
    shown = "×".join(map(str, sides)) if len(sides) > 1 else f"{sides[0]} steps"
    divisors = [d for d in range(1, min(sides) + 1) if all(s % d == 0 for s in sides)]
    fit = [d for d in divisors if 4 <= math.prod(s // d for s in sides) <= _MOST]
    if not fit:
        raise CallError(f"'{model}': no patch cuts {shown} into 4 … {_MOST} equal parts; resize the data")
    if asked is None:
        wanted = max(2, -(-max(sides) // (8 if len(sides) == 2 else 64)))
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
    """(n, C, H, W) → (n, H/p·W/p, p·p·C), row by row; (n, C, L) → (n, L/p, p·C)."""
    if x.dim() == 3:
        n, c, length = x.shape
        return x.reshape(n, c, length // patch, patch).permute(0, 2, 3, 1).flatten(2)
    n, c, h, w = x.shape
    cut = x.reshape(n, c, h // patch, patch, w // patch, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(rows: Tensor, patch: int, grid: tuple[int, ...]) -> Tensor:
    """The inverse of `patchify`; grid: patches along each spatial axis."""
    n = len(rows)
    if len(grid) == 1:
        return rows.reshape(n, grid[0], patch, -1).permute(0, 3, 1, 2).flatten(2)
    cut = rows.reshape(n, *grid, patch, patch, -1)
    return cut.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)


def positions(grid: tuple[int, ...], width: int) -> Tensor:
    """Where each patch lies, as sines and cosines `(patches, width)`: each axis has an equal part of the
    width (Vaswani et al. 2017, section 3.5; in two dimensions as in He et al. 2022).

    width: a multiple of 2·axes
    """
    each = width // len(grid)
    rate = 10_000.0 ** (-torch.arange(each // 2, dtype=torch.float64) / (each // 2))
    axes = torch.meshgrid(*(torch.arange(g, dtype=torch.float64) for g in grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * rate for axis in axes]
    return torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], 1).float()


class Block(nn.Module):
    """x + attention(norm x), then x + mlp(norm x), over (n, patches, width)."""

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

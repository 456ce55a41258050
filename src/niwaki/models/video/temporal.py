"""Layers over time between those over space: each pixel of a feature map along its frames, or all pixels of
all frames together.

They begin as (nearly) the identity, so that a network starts as one of single frames: Singer et al.,
"Make-A-Video", ICLR 2023, Sections 3.2.1 and 3.2.2.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError
from niwaki.nn.layers.attention import attend
from niwaki.nn.layers.blocks import near_zero_init

__all__ = ["TEMPORAL", "JointAttention", "TemporalAttention", "TemporalConvolution"]

_WAVES = 4  # frequencies that say where along an axis a pixel is


class TemporalAttention(nn.Module):
    """x + out(softmax(q kᵀ/√d + b) v) over the frames of each pixel; b depends on how many frames lie between
    (Ho et al., "Video diffusion models", NeurIPS 2022, Section 3, with the relative position embeddings of
    Shaw et al. 2018 as one number per distance and head).

    `(n·frames, channels, h, w)` → the same. As in `Attention2d` query, key, value and output are 1×1
    convolutions, and a head's width is inferred, so that channels can be cut.
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("out",)

    attends: ClassVar[bool] = True
    distance: Tensor

    def __init__(self, channels: int, frames: int, heads: int, groups: int) -> None:
        super().__init__()
        if channels % heads:
            raise CallError(f"{channels} channels cannot be shared by {heads} attention heads")
        self.frames, self.heads = frames, heads
        self.scale = (channels // heads) ** -0.5
        self.norm = nn.GroupNorm(groups, channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1, bias=False)  # softmax does not see a bias of the keys
        self.v = nn.Conv2d(channels, channels, 1)
        self.out = near_zero_init(nn.Conv2d(channels, channels, 1))
        self.near = nn.Parameter(torch.zeros(heads, 2 * frames - 1))
        at = torch.arange(frames)
        self.register_buffer("distance", at[:, None] - at + frames - 1, persistent=False)

    def _split(self, x: Tensor) -> Tensor:
        """(n·frames, heads·d, h, w) → (n, h·w, heads, frames, d)"""
        rows = x.flatten(2).unflatten(0, (-1, self.frames)).unflatten(2, (self.heads, -1))
        return rows.permute(0, 4, 2, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = self._split(self.q(h)), self._split(self.k(h)), self._split(self.v(h))
        weights = torch.softmax((q * self.scale) @ k.transpose(3, 4) + self.near[:, self.distance], dim=-1)
        mixed = (weights.to(v.dtype) @ v).permute(0, 3, 2, 4, 1)  # (n, frames, heads, d, h·w)
        mixed = mixed.flatten(2, 3).flatten(0, 1)
        return x + self.out(mixed.unflatten(2, x.shape[2:]))


class JointAttention(nn.Module):
    """x + out(softmax(q kᵀ/√d) v) over all pixels of all frames at once: what moves meets itself wherever it
    was before, which attention along one pixel's frames cannot (Bertasius, Wang & Torresani 2021,
    "TimeSformer", Section 3: joint space-time attention).

    Queries and keys are told where and when they are by a linear layer of sines and cosines.
    `(n·frames, channels, h, w)` → the same; the cost grows with (frames·h·w)².
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("out",)

    attends: ClassVar[bool] = True

    def __init__(self, channels: int, frames: int, heads: int, groups: int) -> None:
        super().__init__()
        if channels % heads:
            raise CallError(f"{channels} channels cannot be shared by {heads} attention heads")
        self.frames, self.heads = frames, heads
        self.scale = (channels // heads) ** -0.5
        self.norm = nn.GroupNorm(groups, channels)
        self.place = nn.Linear(3 * 2 * _WAVES, channels, bias=False)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1, bias=False)  # softmax does not see a bias of the keys
        self.v = nn.Conv2d(channels, channels, 1)
        self.out = near_zero_init(nn.Conv2d(channels, channels, 1))

    def _split(self, x: Tensor) -> Tensor:
        """(n·frames, heads·d, h, w) → (n, heads, frames·h·w, d)"""
        rows = x.flatten(2).unflatten(0, (-1, self.frames)).permute(0, 1, 3, 2)
        return rows.flatten(1, 2).unflatten(2, (self.heads, -1)).transpose(1, 2)

    def _placed(self, h: Tensor) -> Tensor:
        """h with what says where each pixel is, and in which frame."""
        _, _, height, width = h.shape
        waves = _waves((self.frames, height, width)).to(h.device)
        told = self.place(waves).permute(0, 3, 1, 2)  # (frames, channels, h, w)
        return (h.unflatten(0, (-1, self.frames)) + told).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        placed = self._placed(h)
        q, k, v = self._split(self.q(placed)), self._split(self.k(placed)), self._split(self.v(h))
        mixed = attend(q, k, v, self.scale).transpose(1, 2).flatten(2)  # (n, frames·h·w, channels)
        mixed = mixed.unflatten(1, (self.frames, -1)).flatten(0, 1).transpose(1, 2)
        return x + self.out(mixed.unflatten(2, x.shape[2:]))


def _waves(sizes: tuple[int, int, int]) -> Tensor:
    """Where each place of a block `(T, H, W)` is along every axis, as sines and cosines of half a turn, one
    turn, two … from one end to the other: `(T, H, W, 3·2·waves)`."""
    turns = math.pi * 2.0 ** torch.arange(_WAVES)
    told = []
    for axis, size in enumerate(sizes):
        angle = ((torch.arange(size) + 0.5) / size)[:, None] * turns
        shape = [size if i == axis else 1 for i in range(3)]
        told.append(torch.cat([angle.sin(), angle.cos()], 1).reshape(*shape, -1).expand(*sizes, -1))
    return torch.cat(told, -1)


class TemporalConvolution(nn.Module):
    """x + conv(SiLU(norm(x))) over three neighbouring frames of each pixel; beyond the ends there is zero.

    `(n·frames, channels, h, w)` → the same.
    """

    residual_ends: ClassVar[tuple[str, ...]] = ("conv",)

    attends: ClassVar[bool] = False

    def __init__(self, channels: int, frames: int, heads: int, groups: int) -> None:
        super().__init__()
        self.frames = frames
        self.norm = nn.GroupNorm(groups, channels)
        self.activation = nn.SiLU()
        self.conv = near_zero_init(nn.Conv2d(channels, channels, (3, 1), padding=(1, 0)))

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.norm(x)).flatten(2).unflatten(0, (-1, self.frames)).transpose(1, 2)
        h = self.conv(h)  # (n, channels, frames, h·w)
        return x + h.transpose(1, 2).flatten(0, 1).unflatten(2, x.shape[2:])


TEMPORAL: dict[str, type[TemporalAttention] | type[TemporalConvolution] | type[JointAttention]] = {
    "attention": TemporalAttention,
    "convolution": TemporalConvolution,
    "joint": JointAttention,
}
"""Layers over time by name; each is made of (channels, frames, heads, groups)."""

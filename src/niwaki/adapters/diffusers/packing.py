"""Latents as tokens: squares of 2×2 pixels, and where they lie."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["positions", "square_tokens", "squares_of"]


def square_tokens(x: Tensor) -> Tensor:
    """`(n, c, h, w)` → `(n, h/2 · w/2, 4 c)`, row by row; within a token channels first, then rows."""
    return functional.pixel_unshuffle(x, 2).flatten(2).transpose(1, 2)


def squares_of(tokens: Tensor, height: int, width: int) -> Tensor:
    """`(n, h/2 · w/2, 4 c)` → `(n, c, height, width)`."""
    squares = tokens.transpose(1, 2).unflatten(2, (height // 2, width // 2))
    return functional.pixel_shuffle(squares, 2)


def positions(length: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """`(length + rows · columns, 3)` float32: zeros for a text, (0, row, column) for an image's tokens."""
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    image = torch.stack([torch.zeros_like(down), down, across], dim=-1).flatten(0, 1)
    return torch.cat([torch.zeros(length, 3), image.float()]).to(device)

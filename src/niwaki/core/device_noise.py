"""The runtime's noise on any device, by integer arithmetic in torch: the same words, normals equal to 1e-6.

Philox4x64-10 (Salmon et al., SC 2011) as in `niwaki_runtime.noise`, which says who owns which counters.
torch has no unsigned 64-bit arithmetic: words are int64 that wrap around, and logical shifts are masked.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from niwaki_runtime.noise import STREAMS, blocks

__all__ = ["normal", "words"]

_LOW = 0xFFFFFFFF
_ROUNDS = 10
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)  # added to the key after every round


def _signed(word: int) -> int:
    """An unsigned 64-bit word as the int64 with the same bits."""
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word


def _high(x: Tensor) -> Tensor:
    return (x >> 32) & _LOW


def _multiply(a: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 64 bits of the unsigned products, from four 32 × 32-bit ones."""
    a_low, a_high, x_low, x_high = a & _LOW, _high(a), x & _LOW, _high(x)
    middle = a_high * x_low + _high(a_low * x_low)  # at most 2⁶⁴ − 2³²: no carry is lost
    other = a_low * x_high + (middle & _LOW)
    return a_high * x_high + _high(middle) + _high(other), a * x


def words(
    seed: int, start: int, n: int, size: int, *, stream: str, draw: int, device: torch.device | str = "cpu"
) -> Tensor:
    """32-bit words of the samples start … start+n−1: `(n, size)` int64 in 0 … 2³²−1, equal to `noise.raw`.

    Raises ValueError where the counters would not fit 63 bits.
    """
    b = blocks(size)
    if n < 0 or start < 0 or (start + n) * b >= 1 << 63:
        raise ValueError(f"samples must lie within 2⁶³ blocks: start {start}, n {n}, {b} blocks each")
    key = (seed, STREAMS[stream] << 32 | draw)
    keys = [[k + r * w for k, w in zip(key, _WEYL, strict=True)] for r in range(_ROUNDS)]
    # One small copy to the device for all constants: (1 + rounds, 2, 1).
    table = torch.tensor([[[_signed(v)] for v in row] for row in (_MULTIPLIERS, *keys)]).to(device)
    # A block is four words c₀ … c₃: the even ones are multiplied, the odd ones mixed in.
    even = torch.zeros((2, n * b), dtype=torch.int64, device=device)
    even[0] = torch.arange(start * b, (start + n) * b, device=device)
    odd = torch.zeros_like(even)
    for round_key in table[1:]:
        high, low = _multiply(table[0], even)
        even, odd = high.flip(0) ^ odd ^ round_key, low.flip(0)
    block = torch.stack([even, odd], dim=1).reshape(4, n * b).T  # (n·B, 4), in the order c₀ c₁ c₂ c₃
    return torch.stack([block & _LOW, _high(block)], dim=-1).reshape(n, b * 8)[:, :size]


def normal(
    seed: int,
    start: int,
    n: int,
    shape: tuple[int, ...],
    *,
    stream: str,
    draw: int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normals of the samples start … start+n−1: `(n, *shape)` float32, equal to `noise.normal`."""
    size = math.prod(shape)
    half = 4 * blocks(size)
    w = words(seed, start, n, 2 * half, stream=stream, draw=draw, device=device)
    u = w.to(torch.float32) * 2.0**-32 + 2.0**-33
    radius, angle = torch.sqrt(-2.0 * torch.log(u[:, :half])), u[:, half:] * (2.0 * math.pi)
    out = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
    return out[:, :size].reshape(n, *shape)

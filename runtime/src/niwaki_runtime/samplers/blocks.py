"""Blocks of pixels: their means, and pictures brought to given ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.base import Array

__all__ = ["check_blocks", "means_of", "spread", "with_means"]


def check_blocks(shape: tuple[int, ...], factor: int) -> None:
    """Raises CallError where the last two axes are no multiples of the factor."""
    *_, height, width = (1, 1, *shape)
    if factor < 1 or height % factor or width % factor:
        raise CallError(f"samples of {width}×{height} pixels do not fall into blocks of {factor}×{factor}")


def means_of(xp: Any, x: Array, rows: int, columns: int) -> Array:
    """x `(…, H, W)` → means of its blocks `(…, H/rows, 1, W/columns, 1)`."""
    return xp.mean(_blocks(x, rows, columns), axis=(-3, -1), keepdims=True)


def spread(x: Array, factor: int, change: Callable[[Array], Array]) -> Array:
    """x with a change of its blocks `(…, H/f, f, W/f, f)`."""
    return change(_blocks(x, factor, factor)).reshape(tuple(x.shape))


def with_means(xp: Any, x: Array, factor: int, wanted: Array, bound: float) -> Array:
    """x with blocks of the `wanted` means, within ±bound: b − (b − x)(b − wanted)/(b − M x) to the upper
    bound, likewise to the lower one. Without a bound (0) every block is moved by what its mean lacks."""
    if bound <= 0.0:
        return spread(x, factor, lambda v: v - xp.mean(v, axis=(-3, -1), keepdims=True) + wanted)
    return spread(x.clip(-bound, bound), factor, lambda v: _drawn(xp, v, wanted, bound))


def _drawn(xp: Any, x: Array, wanted: Array, bound: float) -> Array:
    mean = xp.mean(x, axis=(-3, -1), keepdims=True)
    # The other direction's factor is above 1: the lesser of both and 1 leaves that one where it is.
    up = ((bound - wanted) / (bound - mean).clip(1e-12, 2.0 * bound)).clip(0.0, 1.0)
    down = ((wanted + bound) / (mean + bound).clip(1e-12, 2.0 * bound)).clip(0.0, 1.0)
    return (-bound + (x + bound) * down + bound - (bound - x) * up) - x


def _blocks(x: Array, rows: int, columns: int) -> Array:
    *before, height, width = tuple(x.shape)
    return x.reshape((*before, height // rows, rows, width // columns, columns))

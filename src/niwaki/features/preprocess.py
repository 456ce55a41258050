"""What is done to samples before a network from outside sees them: part of its extractor's identity.

Parmar, Zhang & Zhu, "On aliased resizing and surprising subtleties in GAN evaluation", CVPR 2022
(https://arxiv.org/abs/2104.11222): a resize without antialiasing changes a Fréchet distance more than most
models differ. The weights here are computed in float64, as Pillow's are: on values of 0 … 255 in float32 the
results agree to 1e-4, where `torch.nn.functional.interpolate(antialias=True)`, which places its taps in
float32, is off by 3e-3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec, nearest

__all__ = ["Preprocess", "resize"]

_WHITE = 255.0

Along = Callable[[Tensor, int, int], Tensor]
"""(x, axis, length wanted) → x resized along one axis."""

_METHODS: dict[str, Along] = {}


def _register(name: str) -> Callable[[Along], Along]:
    def enter(along: Along) -> Along:
        _METHODS[name] = along
        return along

    return enter


@dataclass(frozen=True)
class Preprocess:
    """Images `(n, C, H, W)` in a data set's value range → what a network was trained on.

    size:    (height, width) in pixels; the whole picture is stretched to it and nothing cropped, so that the
             borders count; None leaves the size
    method:  `bicubic` and `bilinear`: antialiased, as Pillow's; `tf1`: bilinear without half-pixel centres
             and without antialiasing, as TensorFlow 1
    rgb:     grey is repeated into three channels; otherwise channels stay as they are
    rounded: to 256 levels before the resize, as if the picture had been saved and read again
    mean, std: subtracted and divided by, one for each channel or one for all, of values 0 … 1

    The order: range → 0 … 255, rounding, colour, resize, overshoot clipped, mean and deviation.
    Raises CallError for an unknown method, a size below 1 and a deviation that is not positive.
    """

    size: tuple[int, int] | None = None
    method: str = "bicubic"
    rgb: bool = True
    rounded: bool = True
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise CallError(f"there is no way '{self.method}' to resize; {nearest(self.method, _METHODS)}")
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise CallError(f"a picture's size is (height, width) of at least one pixel, not {self.size}")
        if min(self.std) <= 0:
            raise CallError(f"the deviation must be positive, not {self.std}")
        if self.rgb and not {len(self.mean), len(self.std)} <= {1, 3}:
            raise CallError("mean and deviation are one number, or one for each of red, green and blue")

    def check(self, spec: DataSpec) -> None:
        """Raises CallError for data that this cannot prepare."""
        if spec.axes != "CHW":
            raise CallError(
                f"pretrained networks look at images, and this data is '{spec.modality}' of the shape "
                f"{spec.shape}; use the features 'random'"
            )
        if self.rgb and spec.shape[0] not in (1, 3):
            raise CallError(f"pictures must be grey or RGB, and these have {spec.shape[0]} channels")
        if not self.rgb and not {len(self.mean), len(self.std)} <= {1, spec.shape[0]}:
            raise CallError(f"mean and deviation are one number, or one for each of {spec.shape[0]} channels")

    def __call__(self, x: Tensor, low: float, high: float) -> Tensor:
        """Values in [low, high] → (n, C or 3, *size) float32, in 0 … 1 before mean and deviation."""
        x = (x.float() - low) * (_WHITE / (high - low))
        if self.rounded:
            x = (x.clamp(0.0, _WHITE) + 0.5).floor()
        if self.rgb:
            x = x.expand(-1, 3, -1, -1)
        if self.size is not None:
            x = resize(x, self.size, self.method).clamp(0.0, _WHITE)  # a cubic overshoots at edges
        mean, std = (
            torch.tensor(v, dtype=torch.float64).mul(_WHITE).to(x).view(-1, 1, 1)
            for v in (self.mean, self.std)
        )
        return (x - mean) / std

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def resize(x: Tensor, size: tuple[int, int], method: str = "bicubic") -> Tensor:
    """(n, c, h, w) → (n, c, *size); `method` as in `Preprocess`. First along the width, then the height.

    Values are not clipped: a cubic overshoots by up to 7 % at an edge.
    """
    if method not in _METHODS:
        raise CallError(f"there is no way '{method}' to resize; {nearest(method, _METHODS)}")
    along = _METHODS[method]
    return along(along(x, 3, size[1]), 2, size[0])


@_register("bicubic")
def _bicubic(x: Tensor, axis: int, size: int) -> Tensor:
    return _weighted(x, axis, _weights(x.shape[axis], size, "cubic"))


@_register("bilinear")
def _bilinear(x: Tensor, axis: int, size: int) -> Tensor:
    return _weighted(x, axis, _weights(x.shape[axis], size, "triangle"))


@_register("tf1")
def _tf1(x: Tensor, axis: int, size: int) -> Tensor:
    """Sample i lies at i·length/size: the picture is shifted by up to half a pixel, and the FID's reference
    statistics with it. In float32 and in this order it equals TensorFlow's kernel bit by bit."""
    length = x.shape[axis]
    at = torch.arange(size, dtype=torch.float32, device=x.device) * (length / size)
    low = at.long().clamp(max=length - 1)
    before = x.index_select(axis, low)
    after = x.index_select(axis, (low + 1).clamp(max=length - 1))
    share = (at - low).to(x).view(-1, *[1] * (x.ndim - 1 - axis))
    return before + (after - before) * share


def _weighted(x: Tensor, axis: int, weights: np.ndarray) -> Tensor:
    matrix = torch.from_numpy(weights).to(x)
    return (x.movedim(axis, -1) @ matrix.T).movedim(-1, axis)


@lru_cache(maxsize=32)
def _weights(length: int, size: int, kernel: str) -> np.ndarray:
    """(size, length) float64, rows sum to 1: the kernel around each wanted pixel's centre, widened by the
    scale where the picture shrinks. Beyond the border there is nothing: the rest is weighted up."""
    shape, reach = _KERNELS[kernel]
    scale = length / size
    wide = max(scale, 1.0)
    centre = (np.arange(size) + 0.5) * scale
    distance = (np.arange(length)[None] + 0.5 - centre[:, None]) / wide
    raw = np.where(np.abs(distance) < reach, shape(np.abs(distance)), 0.0)
    return raw / raw.sum(1, keepdims=True)


def _cubic(d: np.ndarray) -> np.ndarray:
    """Keys 1981, a = −1/2 as in Pillow (OpenCV and torch without antialiasing take −3/4)."""
    a = -0.5
    near = ((a + 2) * d - (a + 3)) * d**2 + 1
    far = a * (((d - 5) * d + 8) * d - 4)
    return np.where(d < 1, near, far)


_KERNELS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "cubic": (_cubic, 2.0),
    "triangle": (lambda d: 1.0 - d, 1.0),
}

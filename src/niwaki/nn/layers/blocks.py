"""Convolutional parts that quantize, prune and export cleanly: plain layers of torch in `Sequential`s.

A convolution, its normalization and its activation stand in that order, so that an engine folds them into one
operator.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from niwaki.core.contract import CallError, nearest

__all__ = [
    "NORMS",
    "UPSAMPLING",
    "Unflatten",
    "conv_down",
    "conv_norm",
    "conv_up",
    "near_zero_init",
    "pyramid",
]

NORMS: dict[str, Callable[[int], tuple[nn.Module, ...]]] = {
    "batch": lambda channels: (nn.BatchNorm2d(channels),),
    "none": lambda channels: (),
}
"""Normalizations that vanish into the convolution before them at inference."""


def _norm(name: str, channels: int) -> tuple[nn.Module, ...]:
    if name not in NORMS:
        raise CallError(f"there is no normalization '{name}'; {nearest(name, NORMS)}")
    return NORMS[name](channels)


def conv_norm(inputs: int, outputs: int, *, norm: str = "batch", kernel: int = 3) -> list[nn.Module]:
    """Convolution, normalization, ReLU at unchanged height and width."""
    bias = norm == "none"
    return [
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias),
        *_norm(norm, outputs),
        nn.ReLU(),
    ]


def _up_nearest(inputs: int, outputs: int, norm: str) -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2.0, mode="nearest"), *conv_norm(inputs, outputs, norm=norm)]


def _up_transposed(inputs: int, outputs: int, norm: str) -> list[nn.Module]:
    bias = norm == "none"
    layer = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias)
    return [layer, *_norm(norm, outputs), nn.ReLU()]


UPSAMPLING: dict[str, Callable[[int, int, str], list[nn.Module]]] = {
    "nearest": _up_nearest,
    "transposed": _up_transposed,
}
"""Ways to double height and width. `nearest` + convolution has no checkerboard (Odena et al. 2016,
"Deconvolution and checkerboard artifacts") and int8 kernels on every engine; `transposed` is DCGAN's own
(Radford et al. 2016)."""


def conv_up(
    inputs: int, outputs: int, *, upsampling: str = "nearest", norm: str = "batch"
) -> list[nn.Module]:
    """Doubles height and width: `(n, inputs, h, w)` → `(n, outputs, 2h, 2w)`."""
    if upsampling not in UPSAMPLING:
        raise CallError(f"there is no upsampling '{upsampling}'; {nearest(upsampling, UPSAMPLING)}")
    return UPSAMPLING[upsampling](inputs, outputs, norm)


def conv_down(inputs: int, outputs: int, activation: Callable[[], nn.Module]) -> list[nn.Module]:
    """Halves height and width in a strided convolution: `(n, inputs, h, w)` → `(n, outputs, h/2, w/2)`."""
    return [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), activation()]


def near_zero_init(layer: nn.Conv2d, gain: float = 1e-2) -> nn.Conv2d:
    """`layer` with small weights and no bias: the last of a residual branch, which then starts as its skip.

    Not zero (Ho et al. 2020 use 1e-10): every parameter before it gets a gradient from the first step on.
    """
    nn.init.xavier_uniform_(layer.weight, gain=gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Unflatten(nn.Module):
    """`(n, c·h·w)` → `(n, c, h, w)`; the channels are inferred, so it stays right when some are pruned."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (-1, self.height, self.width))


def pyramid(height: int, width: int, smallest: int = 4) -> list[tuple[int, int]]:
    """Sizes from the coarsest to `(height, width)`, each twice the one before, no side below `smallest`.

    >>> pyramid(32, 32)
    [(4, 4), (8, 8), (16, 16), (32, 32)]
    >>> pyramid(28, 28)
    [(7, 7), (14, 14), (28, 28)]
    """
    sizes = [(height, width)]
    while height % 2 == 0 and width % 2 == 0 and min(height, width) // 2 >= smallest:
        height, width = height // 2, width // 2
        sizes.append((height, width))
    return sizes[::-1]

"""How far sounds lie apart by their spectra, as a loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["spectral_distance"]

_FLOOR = 1e-3
"""Magnitude that counts as silence, where a sine of full scale has 1."""


def spectral_distance(made: Tensor, x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Mean over window sizes of half the relative error of magnitudes, and the mean error of their logarithms
    (Yamamoto et al. 2020, "Parallel WaveGAN", Section 2.2, with absolute errors).

    made, x: sounds `(n, T)` in −1 … 1, float32
    sizes:   of the windows, in steps; two to a window's length
    """
    total = made.new_zeros(())
    for size in sizes:
        a, b = (_magnitudes(sound, size) for sound in (made, x))
        relative = (a - b).abs().mean() / b.mean().clamp(min=_FLOOR)
        logarithms = (a.clamp(min=_FLOOR).log() - b.clamp(min=_FLOOR).log()).abs().mean()
        total = total + 0.5 * relative + logarithms
    return total / len(sizes)


def _magnitudes(x: Tensor, size: int) -> Tensor:
    window = torch.hann_window(size, device=x.device)
    spectrum = torch.stft(x, size, max(1, size // 2), window=window, pad_mode="constant", return_complex=True)
    # Not `abs`, whose gradient at a bin of exact silence is none.
    power = spectrum.real.square() + spectrum.imag.square()
    return (power + 1e-12).sqrt() * (4.0 / size)

"""Spectra of sound: short-time Fourier transform and mel bands, in numpy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from niwaki_runtime.sounds import RATE
from niwaki_runtime.specs import ValueSpec

__all__ = ["FLOOR", "Frames", "decibels", "frames_of", "log_mel", "mel_bands", "power", "unit"]

FLOOR = 1e-6
"""Power of a band that counts as silence: −60 dB, where a sine of full scale has 0 dB. The noise of 8-bit
sound lies below; with less, features see hardly anything else in a band where nothing sounds."""
_SECONDS = 0.032  # of a frame
_BANDS = 32


@dataclass(frozen=True)
class Frames:
    """How sound is cut for its spectra.

    rate:  steps per second; size: steps of a frame; hop: steps between two frames; bands: on the mel scale
    """

    rate: float
    size: int
    hop: int
    bands: int

    @property
    def window(self) -> np.ndarray:
        """Hann's, of one period `(size,)`, so scaled that a sine of full scale has a power of 1."""
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.size) / self.size)
        return np.asarray(window * (2.0 / window.sum()))


def frames_of(spec: ValueSpec) -> Frames:
    """Frames of 32 ms, as a power of two and no longer than the sound, four to a frame's length."""
    rate, length = spec.rate or RATE, spec.shape[-1]
    size = 1 << max(1, round(np.log2(rate * _SECONDS)))
    while size > max(length, 4):
        size //= 2
    return Frames(rate, size, max(1, size // 4), max(1, min(_BANDS, size // 4)))


def unit(x: np.ndarray, spec: ValueSpec) -> np.ndarray:
    """Values in the spec's range, brought to −1 … 1; those without bounds stay as they are."""
    half = (spec.high - spec.low) / 2
    return x if not np.isfinite(half) else (x - (spec.low + half)) / half


def power(x: np.ndarray, frames: Frames) -> np.ndarray:
    """Power spectra of sound in −1 … 1 `(…, T)` → `(…, bins, times)`. Nothing sounds before and after it; a
    frame's middle lies at times a hop apart, from the first step on."""
    half = frames.size // 2
    padded = np.pad(np.asarray(x, np.float64), [(0, 0)] * (x.ndim - 1) + [(half, half)])
    cut = np.lib.stride_tricks.sliding_window_view(padded, frames.size, axis=-1)[..., :: frames.hop, :]
    spectrum = np.fft.rfft(cut * frames.window, axis=-1)
    return np.moveaxis(np.abs(spectrum) ** 2, -1, -2)


@lru_cache(maxsize=16)
def mel_bands(frames: Frames) -> np.ndarray:
    """Weights `(bands, bins)` of triangles that overlap by half on the mel scale 2595 log₁₀(1 + f/700)
    (O'Shaughnessy 1987), from 0 to half the rate. Each sums to 1; one that falls between two bins takes the
    nearest."""
    top = 2595 * np.log10(1 + frames.rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, frames.bands + 2) / 2595) - 1)
    bins = np.arange(frames.size // 2 + 1) * (frames.rate / frames.size)
    low, middle, high = (edges[k : k + frames.bands, None] for k in range(3))
    weights = np.clip(np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)), 0.0, None)
    nearest = np.abs(bins - middle).argmin(1)
    empty = weights.sum(1) == 0
    weights[empty, nearest[empty]] = 1.0
    return np.asarray(weights / weights.sum(1, keepdims=True))


def decibels(x: np.ndarray, floor: float = FLOOR) -> np.ndarray:
    """10 log₁₀ of power, with what is below `floor` at its level."""
    return np.asarray(10 * np.log10(np.maximum(x, floor)))


def log_mel(x: np.ndarray, frames: Frames) -> np.ndarray:
    """Sound in −1 … 1 `(…, T)` → bands in dB `(…, bands, times)`."""
    return decibels(mel_bands(frames) @ power(x, frames))

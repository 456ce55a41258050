"""Sound `(T)` and `(C, T)`, −1 … 1: recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from niwaki.modalities.base import Media, Modality, register_modality
from niwaki.modalities.drawing import address, heat, lines_over
from niwaki.modalities.series import as_channels
from niwaki.modalities.spectrum import FLOOR, decibels, frames_of, log_mel, unit
from niwaki_runtime.sounds import one_after_another, wav
from niwaki_runtime.specs import ValueSpec

__all__ = ["Audio"]


@register_modality("audio")
class Audio(Modality):
    """Recordings, played on the page under their curve and their log-mel spectrum, and written as WAV of 16
    bits."""

    features = ("classifier", "log-mel", "random")

    def writers(self, spec: ValueSpec) -> Mapping[str, Callable[..., bytes]]:
        return {".wav": _all}

    def show(self, x: np.ndarray, spec: ValueSpec, files: Mapping[str, str] | None = None) -> Media:
        channels = as_channels(x)
        most = max(1, channels.shape[-1] // 600)
        curves = lines_over(channels[:, ::most], spec.low, spec.high, _spectrum(channels, spec))
        return Media("sound", address(wav(channels, spec), "audio/wav"), curves)

    def ruin(self, x: np.ndarray, spec: ValueSpec, rng: np.random.Generator) -> np.ndarray:
        """Noise of the same loudness at every moment: the sound's outline is left, nothing in it is."""
        return (np.abs(x) * np.sign(rng.standard_normal(x.shape))).astype(np.float32)


def _spectrum(channels: np.ndarray, spec: ValueSpec) -> np.ndarray:
    """Bands over time as a picture `(bands, times, 3)` uint8, low bands below, silence dark."""
    silence = decibels(np.array(FLOOR))
    found = log_mel(unit(np.nan_to_num(channels), spec), frames_of(spec)).mean(0)
    return heat(1.0 - np.clip(found[::-1] / silence, 0.0, 1.0))


def _all(x: np.ndarray, spec: ValueSpec, files: Any) -> bytes:
    return one_after_another(x, spec)

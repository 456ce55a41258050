"""How near a restored sound is to the truth: by its error whatever its loudness, and by its spectrum."""

from __future__ import annotations

import numpy as np

from niwaki.core.contract import ValueSpec
from niwaki.evaluation.metrics.restored import measure
from niwaki.modalities.spectrum import decibels, frames_of, log_mel, power, unit

__all__ = ["log_mel_distance", "log_spectral_distance", "scale_invariant_distortion"]

_MOST = 100.0  # dB; more is rounding
_FLOOR = 1e-8  # power that counts as silence
_ROWS = 64  # spectra held at once


def _sounds(spec: ValueSpec) -> bool:
    """Whether values are amounts over time between two bounds."""
    return spec.axes in ("T", "CT") and not spec.is_tokens and bool(np.isfinite(spec.high - spec.low))


@measure("signal to distortion, whatever the loudness (SI-SDR), in dB", "higher")
def scale_invariant_distortion(x: np.ndarray, truth: np.ndarray, spec: ValueSpec) -> np.ndarray | None:
    """10 log₁₀(‖αs‖²/‖αs − x‖²) of each sound x with its truth s, α = ⟨x, s⟩/‖s‖² (Le Roux et al., "SDR –
    half-baked or well done?", ICASSP 2019), within ±100 dB `(n,)`. None for what is no sound."""
    if not _sounds(spec):
        return None
    a, s = (unit(v.astype(np.float64), spec).reshape(len(v), -1) for v in (x, truth))
    scale = (a * s).sum(1, keepdims=True) / np.maximum((s * s).sum(1, keepdims=True), 1e-30)
    kept, lost = ((scale * s) ** 2).sum(1), ((scale * s - a) ** 2).sum(1)
    ratio = 10 * (np.log10(np.maximum(kept, 1e-30)) - np.log10(np.maximum(lost, 1e-30)))
    return np.clip(ratio, -_MOST, _MOST)


@measure("log-spectral distance in dB", "lower")
def log_spectral_distance(x: np.ndarray, truth: np.ndarray, spec: ValueSpec) -> np.ndarray | None:
    """Root mean square over frequencies of the difference in dB, its mean over time and channels `(n,)`; what
    is quieter than −80 dB counts as silence. None for what is no sound."""
    if not _sounds(spec):
        return None
    frames, found = frames_of(spec), []
    for at in range(0, len(x), _ROWS):
        a, b = (decibels(power(unit(v[at : at + _ROWS], spec), frames), _FLOOR) for v in (x, truth))
        each = np.sqrt(((a - b) ** 2).mean(-2))
        found.append(each.reshape(len(each), -1).mean(1))
    return np.concatenate(found)


@measure("log-mel distance in dB", "lower")
def log_mel_distance(x: np.ndarray, truth: np.ndarray, spec: ValueSpec) -> np.ndarray | None:
    """Mean over bands, times and channels of the absolute difference in dB `(n,)`; what is quieter than
    −60 dB counts as silence. None for what is no sound."""
    if not _sounds(spec):
        return None
    frames = frames_of(spec)
    a, b = (log_mel(unit(v, spec), frames) for v in (x, truth))
    return np.asarray(np.abs(a - b).reshape(len(a), -1).mean(1))

"""Samples as a sound file, with numpy alone: WAV of 16 bits."""

from __future__ import annotations

import io
import math
import wave

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.specs import ValueSpec

__all__ = ["PAUSE", "RATE", "one_after_another", "wav"]

RATE = 16_000.0
"""Values per second where a spec says nothing."""
PAUSE = 0.25
"""Seconds between samples in one file."""


def wav(channels: np.ndarray, spec: ValueSpec) -> bytes:
    """`(C, T)` in [low, high] as a WAV file of 16 bits."""
    unit = (channels - spec.low) / (spec.high - spec.low) * 2.0 - 1.0
    values = (np.clip(np.nan_to_num(unit), -1, 1) * 32767).round().astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(len(channels))
        out.setsampwidth(2)
        out.setframerate(round(spec.rate or RATE))
        out.writeframes(values.T.tobytes())
    return file.getvalue()


def one_after_another(samples: np.ndarray, spec: ValueSpec) -> bytes:
    """Sounds `(n, T)` or `(n, C, T)` as one WAV file, a pause between them.

    Raises CallError for samples that are no sound between two bounds, and where there are none.
    """
    if spec.axes not in ("T", "CT") or spec.is_tokens or not math.isfinite(spec.high - spec.low):
        raise CallError(
            f"a sound is made of amounts over time between two bounds, and the bundle gives {spec.modality} "
            f"samples of the shape {spec.shape}; write .npz or .npy"
        )
    if not len(samples):
        raise CallError("there are no samples to write; ask for at least one with -n")
    x = samples.reshape(len(samples), -1, samples.shape[-1])
    silence = np.full((x.shape[1], round(PAUSE * (spec.rate or RATE))), (spec.low + spec.high) / 2, x.dtype)
    parts = [part for sample in x for part in (sample, silence)]
    return wav(np.concatenate(parts[:-1], 1), spec)

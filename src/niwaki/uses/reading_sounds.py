"""Sound files that a user names, as what a model of sound takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from niwaki.core.errors import CallError
from niwaki.data.reading.sounds import EXTENSIONS, read_sound, resampled, with_channels
from niwaki.uses.paths import files_below
from niwaki_runtime.sounds import RATE
from niwaki_runtime.specs import ValueSpec

__all__ = ["SOUNDS", "fitted", "read_recordings"]

SOUNDS = tuple(f".{ending}" for ending in EXTENSIONS)


def read_recordings(places: Sequence[Path], spec: ValueSpec) -> tuple[list[np.ndarray], list[str], int]:
    """Sound files (of a directory all in it) at the model's rate and channels: each `(C, steps)` in the range
    of the spec, their names, and their bytes.

    Raises CallError for one that cannot be read as sound.
    """
    sounds, names, size = [], [], 0
    for file in files_below(places, SOUNDS, "sounds (.wav, .flac …)"):
        sounds.append(_heard(file, spec))
        names.append(file.name)
        size += file.stat().st_size
    return sounds, names, size


def fitted(file: Path, spec: ValueSpec) -> np.ndarray:
    """A sound file as one sample `(*shape)`: what is longer is cut off, after its end there is silence."""
    heard, length = _heard(file, spec)[:, : spec.shape[-1]], spec.shape[-1]
    silence = np.full((len(heard), length - heard.shape[1]), (spec.low + spec.high) / 2, np.float32)
    return np.concatenate([heard, silence], axis=1).reshape(spec.shape)


def _heard(file: Path, spec: ValueSpec) -> np.ndarray:
    channels = spec.size // spec.shape[-1]
    if channels > 2:
        raise CallError(
            f"sound files have one or two channels, and the model's samples {channels}; give .npy"
        )
    found = read_sound(file, file.name)
    x = np.clip(resampled(with_channels(found.values, channels), found.rate, spec.rate or RATE), -1.0, 1.0)
    return np.asarray(spec.low + (spec.high - spec.low) * (x + 1.0) / 2.0, np.float32)

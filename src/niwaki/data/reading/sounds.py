"""Sound files as floats: WAV by scipy, all others by soundfile; resampling, and silence at both ends."""

from __future__ import annotations

import io
import math
import re
import warnings
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from niwaki.core.contract import CallError, first_line

__all__ = ["EXTENSIONS", "FULL", "Sound", "clipping", "read_sound", "resampled", "trimmed", "with_channels"]

EXTENSIONS = ("wav", "flac", "ogg", "oga", "opus", "aif", "aiff", "au", "mp3")
FULL = 1.0 - 2.0**-7
"""What counts as full scale: the largest value of 8 bits, and all above."""
_FASTEST = 1e7  # steps per second that are believed
_FINEST = 10_000  # numbers that a ratio of two rates is made of, at most
_ROW = 3  # values at full scale, one after the other, that were cut off there


@dataclass(frozen=True)
class Sound:
    """What a file holds.

    values: `(C, T)` float32, full scale −1 … 1
    rate:   steps per second
    """

    values: np.ndarray
    rate: float


def read_sound(path: Path, name: str) -> Sound:
    """A WAV file of 8, 16, 24 or 32 bits or of floats, or any other that soundfile reads, where it is
    installed. Raises CallError for what cannot be read, what holds nothing, and for values that are no
    numbers."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CallError(f"'{name}' cannot be opened: {error.strerror or error}") from None
    found = _wav(raw) if raw[:4] in (b"RIFF", b"RIFX", b"RF64") else None
    if found is None:
        found = _by_soundfile(raw, name)
    if not found.values.size or found.rate <= 0:
        raise CallError(f"'{name}' holds no sound")
    if found.rate > _FASTEST:
        raise CallError(f"'{name}' says that it has {found.rate:.0f} steps per second, which no sound has")
    if not np.isfinite(found.values).all():
        raise CallError(f"'{name}' holds values that are no numbers")
    return found


def _wav(raw: bytes) -> Sound | None:
    """None for what scipy does not read (μ-law, ADPCM, a header that is broken)."""
    import scipy.io.wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # chunks that it passes over
            rate, values = scipy.io.wavfile.read(io.BytesIO(raw))
    except Exception:  # it raises whatever a broken header leads to
        return None
    if values.dtype == np.uint8:
        values = (values.astype(np.float32) - 128.0) / 128.0
    elif values.dtype.kind == "i":  # 24 bits stand in the upper ones of 32
        values = values.astype(np.float64) / -float(np.iinfo(values.dtype).min)
    return Sound(np.atleast_2d(values.T).astype(np.float32), float(rate))


def _by_soundfile(raw: bytes, name: str) -> Sound:
    try:
        import soundfile
    except (ImportError, OSError):
        raise CallError(
            f"'{name}' is no plain WAV file; other kinds are read by soundfile: pip install 'niwaki[audio]'"
        ) from None
    try:
        values, rate = soundfile.read(io.BytesIO(raw), dtype="float32", always_2d=True)
    except Exception as error:
        # It names the buffer that it was given, and where that lies.
        said = re.sub(r"^Error opening <.*?>: ", "", first_line(error))
        raise CallError(f"'{name}' cannot be read: {said}") from None
    return Sound(np.ascontiguousarray(values.T), float(rate))


def with_channels(x: np.ndarray, channels: int) -> np.ndarray:
    """`(C, T)` as one channel, their mean, or as two: the first two, or the one twice."""
    if channels == 1:
        return x.mean(0, keepdims=True)
    return x[:2] if len(x) > 1 else np.repeat(x, 2, 0)


def resampled(x: np.ndarray, rate: float, wanted: float) -> np.ndarray:
    """`(C, T)` at another rate, by a polyphase filter (Kaiser's window) that leaves nothing above half the
    lower rate. Raises CallError where one rate is ten thousand times the other."""
    if rate == wanted:
        return x
    import scipy.signal

    share = Fraction(wanted / rate).limit_denominator(_FINEST)
    if not 1 / _FINEST <= wanted / rate <= _FINEST:
        raise CallError(f"a sound of {rate:g} steps per second cannot be brought to {wanted:g}")
    out = scipy.signal.resample_poly(x.astype(np.float64), share.numerator, share.denominator, axis=-1)
    return np.asarray(out, np.float32)


def trimmed(x: np.ndarray, rate: float, decibels: float) -> tuple[int, int]:
    """First and last step + 1 of `(C, T)` without the silence at both ends: what is quieter than the loudest
    hundredth of a second by more than so many dB. Of a file that is silent nothing is left."""
    step = max(1, round(rate / 100))
    count = math.ceil(x.shape[-1] / step)
    padded = np.pad(x, ((0, 0), (0, count * step - x.shape[-1]))).astype(np.float64)
    loud = (padded.reshape(len(x), count, step) ** 2).mean(2).max(0)
    if loud.max() == 0:
        return 0, 0
    heard = np.flatnonzero(loud > loud.max() * 10 ** (-decibels / 10))
    return int(heard[0]) * step, min((int(heard[-1]) + 1) * step, x.shape[-1])


def clipping(x: np.ndarray) -> int:
    """Values of `(C, T)` that were cut off at full scale: three or more alike in a row, at the file's largest
    value, which is full scale."""
    top = np.abs(x).max() if x.size else 0.0
    if top < FULL:
        return 0
    flat = np.abs(x) >= top * (1 - 1e-6)
    same = np.pad(np.diff(np.sign(x), axis=-1) == 0, ((0, 0), (1, 0))) & flat
    count = 0
    for row, joined in zip(flat, same, strict=True):
        starts = np.flatnonzero(row & ~(joined & np.concatenate([[False], row[:-1]])))
        ends = np.append(starts[1:], len(row))
        lengths = [int(row[a:b].sum()) for a, b in zip(starts, ends, strict=True)]
        count += sum(n for n in lengths if n >= _ROW)
    return count

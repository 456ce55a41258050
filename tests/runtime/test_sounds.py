"""Samples as WAV files, without torch."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.sounds import PAUSE, one_after_another
from niwaki_runtime.specs import Real, Tokens, ValueSpec


@pytest.mark.parametrize("shape", [(500,), (1, 500), (2, 300)])
@pytest.mark.parametrize("ends", [(-1.0, 1.0), (0.0, 4.0)])
def test_sounds_follow_one_another_with_pauses(shape: tuple[int, ...], ends: tuple[float, float]) -> None:
    spec = ValueSpec("audio", shape, None, Real(*ends), 8000.0)
    x = np.random.default_rng(0).uniform(*ends, (3, *shape)).astype(np.float32)
    with wave.open(io.BytesIO(one_after_another(x, spec))) as file:
        channels, frames = file.getnchannels(), file.getnframes()
        assert (file.getsampwidth(), file.getframerate()) == (2, 8000)
        values = np.frombuffer(file.readframes(frames), "<i2").reshape(frames, channels).T / 32767
    pause, length = round(PAUSE * 8000), shape[-1]
    assert frames == 3 * length + 2 * pause
    middle, half = sum(ends) / 2, (ends[1] - ends[0]) / 2
    for i in range(3):
        start = i * (length + pause)
        part = values[:, start : start + length]
        np.testing.assert_allclose(part, (x[i].reshape(channels, -1) - middle) / half, atol=1 / 32767)
        assert not values[:, start + length : start + length + pause].any()


@pytest.mark.parametrize(
    "spec",
    [
        ValueSpec("image", (1, 8, 8)),
        ValueSpec("text", (8,), "T", Tokens(5)),
        ValueSpec("series", (8,), "T", Real(-float("inf"), float("inf"))),
    ],
)
def test_what_is_no_sound_is_refused(spec: ValueSpec) -> None:
    with pytest.raises(CallError, match="a sound is made of"):
        one_after_another(np.zeros((1, *spec.shape)), spec)

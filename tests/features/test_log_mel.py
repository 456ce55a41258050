"""Log-mel spectra against scipy's transform and closed forms; features of sound that metrics take."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import DataConfig, Dataset, load
from niwaki.evaluation.metrics.frechet import frechet_distance
from niwaki.features import available, build
from niwaki.features.log_mel import LogMel
from niwaki.modalities.spectrum import Frames, decibels, frames_of, log_mel, mel_bands, power
from niwaki_runtime.specs import Real, ValueSpec

RATE = 8000.0
FRAMES = Frames(RATE, 256, 64, 32)


@pytest.fixture(scope="module")
def strings() -> Dataset:
    return load(DataConfig.model_validate({"source": "strings", "samples": 400, "length": 1000}))


@pytest.mark.parametrize("length", [256, 300, 1000, 1023])
def test_spectra_are_those_of_scipy(length: int) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (2, length))
    transform = scipy.signal.ShortTimeFFT(FRAMES.window, FRAMES.hop, RATE, phase_shift=None)
    theirs = np.abs(transform.stft(x, p0=0, p1=length // FRAMES.hop + 1)) ** 2
    np.testing.assert_allclose(power(x, FRAMES), theirs, atol=1e-12)


@pytest.mark.parametrize("bin_", [5, 20, 64, 100])
@pytest.mark.parametrize("loud", [1.0, 0.1])
def test_a_sine_has_the_power_of_its_loudness(bin_: int, loud: float) -> None:
    t = np.arange(2000)
    found = power(loud * np.sin(2 * np.pi * bin_ * t / FRAMES.size), FRAMES)[:, 5:-5]
    assert (found.argmax(0) == bin_).all()
    np.testing.assert_allclose(decibels(found[bin_]), 20 * np.log10(loud), atol=1e-6)


@pytest.mark.parametrize("frames", [FRAMES, Frames(16_000.0, 512, 128, 32), Frames(8000.0, 16, 4, 4)])
def test_mel_bands_are_triangles_that_sum_to_one(frames: Frames) -> None:
    bands = mel_bands(frames)
    assert bands.shape == (frames.bands, frames.size // 2 + 1)
    np.testing.assert_allclose(bands.sum(1), 1.0)
    middles = bands @ np.arange(bands.shape[1])
    assert (np.diff(middles) > 0).all()
    for row in bands:  # rises, then falls
        steps = np.sign(np.diff(row[row > 0]))
        assert (np.diff(steps) <= 0).all()


def test_the_mel_scale_is_even() -> None:
    """Middles of wide bands, in mel, are equally far apart."""
    fine = Frames(RATE, 8192, 2048, 32)
    middles = mel_bands(fine).argmax(1) * RATE / fine.size
    mel = 2595 * np.log10(1 + middles / 700)
    np.testing.assert_allclose(np.diff(mel), np.diff(mel).mean(), atol=2.0)


@pytest.mark.parametrize("shape", [(1000,), (1, 1000), (2, 700)])
def test_the_network_looks_at_the_same_spectra(shape: tuple[int, ...]) -> None:
    spec = DataSpec({"x": ValueSpec("audio", shape, None, Real(0.0, 4.0), RATE)})
    x = np.random.default_rng(0).uniform(0, 4, (3, *shape)).astype(np.float32)
    found = LogMel(spec).spectra(torch.from_numpy(x)).numpy()
    expected = log_mel((x.reshape(3, -1, shape[-1]) - 2.0) / 2.0, frames_of(spec.x))
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_silence_is_finite_and_the_same_everywhere() -> None:
    assert (log_mel(np.zeros(500), FRAMES) == -60.0).all()


@pytest.mark.parametrize("length", [4, 5, 17, 64, 255])
def test_frames_are_no_longer_than_the_sound(length: int) -> None:
    spec = DataSpec({"x": ValueSpec("audio", (length,), "T", Real(), RATE)})
    assert frames_of(spec.x).size <= length
    assert torch.isfinite(LogMel(spec)(torch.rand(2, length))).all()


def test_features_tell_notes_apart_and_the_frechet_distance_tells_damage(strings: Dataset) -> None:
    (extractor,) = build(["log-mel"], strings)
    assert "log-mel" in available(strings)
    real = extractor(strings.train.values())
    np.testing.assert_allclose(real.mean(0), 0.0, atol=1e-3)
    assert (real.std(0) < 1.01).all()
    x, rng = strings.test.values().numpy(), np.random.default_rng(0)
    noisy = np.clip(x + 0.02 * rng.standard_normal(x.shape), -1, 1).astype(np.float32)
    quiet = (0.3 * x).astype(np.float32)
    sounds = {"real": x, "noisy": noisy, "quiet": quiet}
    distances = {name: frechet_distance(real, extractor(v)).value for name, v in sounds.items()}
    assert distances["noisy"] > 3 * distances["real"]
    assert distances["quiet"] > 1.5 * distances["real"]


def test_what_is_no_sound_is_refused() -> None:
    digits = load(DataConfig.model_validate({"source": "digits"}))
    assert "log-mel" not in available(digits)
    with pytest.raises(CallError, match="are of sound"):
        build(["log-mel"], digits)

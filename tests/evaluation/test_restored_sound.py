"""Measures of restored sound in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from niwaki.core.contract import Real, ValueSpec
from niwaki.evaluation.metrics.restored import MEASURES
from niwaki.evaluation.metrics.restored_sound import (
    log_mel_distance,
    log_spectral_distance,
    scale_invariant_distortion,
)

SPEC = ValueSpec("audio", (1024,), "T", Real(), 8000.0)
HALVED = ValueSpec("audio", (1024,), "T", Real(0.0, 1.0), 8000.0)
STEREO = ValueSpec("audio", (2, 512), "CT", Real(), 8000.0)
T = np.arange(1024)
TONE = 0.5 * np.sin(2 * np.pi * 64 * T / 1024)
OTHER = 0.5 * np.sin(2 * np.pi * 100 * T / 1024)  # orthogonal to it


@pytest.mark.parametrize("noise", [1.0, 0.3, 0.1, 0.01])
@pytest.mark.parametrize("gain", [1.0, 0.2, -1.5])
def test_distortion_is_that_of_the_orthogonal_part_whatever_the_gain(noise: float, gain: float) -> None:
    x = gain * (TONE + noise * OTHER)
    found = scale_invariant_distortion(x[None], TONE[None], SPEC)
    assert found == pytest.approx(-20 * np.log10(noise), abs=1e-6)


def test_distortion_is_finite_at_both_ends() -> None:
    x = np.stack([TONE, OTHER, 0 * TONE])
    found = scale_invariant_distortion(x, np.stack([TONE] * 3), SPEC)
    assert found is not None
    assert found[0] == 100.0
    assert found[1] == -100.0
    assert np.isfinite(found).all()


@pytest.mark.parametrize("gain", [1.0, 0.5, 0.1])
def test_the_spectral_distance_of_a_gain_is_the_gain(gain: float) -> None:
    """Of noise, all of whose frequencies are well above silence."""
    truth = np.random.default_rng(0).uniform(-1, 1, (3, 1024))
    for distance in (log_spectral_distance, log_mel_distance):
        found = distance(gain * truth, truth, SPEC)
        np.testing.assert_allclose(found, -20 * np.log10(gain), atol=0.02)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(MEASURES)[1:])
def test_measures_do_not_depend_on_the_range_or_the_order_of_channels(name: str) -> None:
    rng = np.random.default_rng(0)
    x, truth = rng.uniform(-1, 1, (2, 4, 1024))
    of = MEASURES[name].of
    np.testing.assert_allclose(of(x / 2 + 0.5, truth / 2 + 0.5, HALVED), of(x, truth, SPEC), atol=1e-6)  # type: ignore[arg-type]
    a, b = x.reshape(4, 2, 512), truth.reshape(4, 2, 512)
    np.testing.assert_allclose(of(a[:, ::-1], b[:, ::-1], STEREO), of(a, b, STEREO), atol=1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spec", [ValueSpec("image", (1, 8, 8)), ValueSpec("series", (64,), "T", Real(0.0, float("inf")))]
)
def test_what_is_no_sound_has_none(spec: ValueSpec) -> None:
    x = np.zeros((2, *spec.shape))
    assert scale_invariant_distortion(x, x, spec) is None
    assert log_spectral_distance(x, x, spec) is None

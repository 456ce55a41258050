"""Probabilities as integers: against floats, and alike on every machine by construction."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from niwaki_runtime.codec.normal_bins import (
    GRID,
    LOG_GRID,
    centres,
    nearest_bins,
    posterior_frequencies,
    values,
)
from niwaki_runtime.codec.tables import LOG2_E, PRECISION, frequencies, power_of_two


def test_powers_of_two_are_right_to_a_unit() -> None:
    exponent = np.arange(3 * 4096)
    assert np.abs(power_of_two(exponent) - 2.0 ** (30 - exponent / 4096)).max() <= 1.0
    assert power_of_two(np.array([1 << 40])) == 0


@pytest.mark.parametrize("k", [2, 3, 17, 256, 4096])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_frequencies_sum_up_and_follow_the_weights(k: int, spread: float) -> None:
    rng = np.random.default_rng(k)
    weights = np.round(rng.normal(size=(6, k)) * spread * 4096).astype(np.int64)
    found = frequencies(weights)
    assert (found.sum(-1) == 1 << PRECISION).all()
    assert found.min() >= 1
    p = np.exp2((weights - weights.max(-1, keepdims=True)) / 4096.0)
    p /= p.sum(-1, keepdims=True)
    assert np.abs(found / 2.0**PRECISION - p).max() < (k + 2) * 2.0**-PRECISION + 1e-7


@pytest.mark.parametrize("bits", range(1, 13))
def test_no_table_entry_lies_where_machines_could_round_apart(bits: int) -> None:
    k = 1 << bits
    middles = [NormalDist().inv_cdf((i + 0.5) / k) for i in range(k // 2, k)]
    stretch = math.sqrt(len(middles) / math.fsum(c * c for c in middles))
    exact = [c * stretch * (1 << GRID) for c in middles]
    assert np.square(centres(bits) / 2.0**GRID).mean() == pytest.approx(1.0, abs=1e-3)
    away = [abs(abs(v - math.floor(v)) - 0.5) for v in exact]
    assert min(away) > 1e-6  # float64 differs by less than 1e-11 here
    assert (np.diff(centres(bits)) > 0).all()
    assert (centres(bits) == -centres(bits)[::-1]).all()
    whole = math.log2(math.e) * (1 << 20)
    assert round(whole) == LOG2_E
    assert abs(abs(whole - math.floor(whole)) - 0.5) > 1e-3


@pytest.mark.parametrize("bits", [4, 8, 10])
@pytest.mark.parametrize(
    ("mean", "deviation"), [(0.0, 1.0), (0.7, 0.3), (-1.2, 0.1), (1.5, 0.5), (3.5, 0.02)]
)
def test_the_posterior_is_that_of_the_normal_distribution(bits: int, mean: float, deviation: float) -> None:
    k, prior, q = 1 << bits, NormalDist(), NormalDist(mean, deviation)
    edges = [prior.inv_cdf(i / k) for i in range(1, k)]
    want = np.diff([0.0, *(q.cdf(e) for e in edges), 1.0])
    at = np.array([round(mean * (1 << GRID))]), np.array([round(math.log2(deviation) * (1 << LOG_GRID))])
    got = posterior_frequencies(*at, bits)[0] / 2.0**PRECISION
    # taken at the middle of each bin: near where bins are no wider than q
    narrow = k * prior.pdf(mean) * deviation > 2.0
    assert 0.5 * np.abs(got - want).sum() < (0.05 if narrow else 1.0)
    assert abs(got.sum() - 1.0) < 1e-12


def test_the_prior_as_posterior_is_even() -> None:
    assert np.ptp(posterior_frequencies(np.zeros(1, np.int64), np.zeros(1, np.int64), 8)) <= 1


@pytest.mark.parametrize("mean", [0, 1 << 14, -(3 << 14), 1 << 40])
@pytest.mark.parametrize("log_deviation", [0, -14 << 8, -1 << 30, 1 << 30])
def test_no_posterior_overflows(mean: int, log_deviation: int) -> None:
    found = posterior_frequencies(np.array([mean]), np.array([log_deviation]), 12)
    assert found.min() >= 1
    assert found.sum() == 1 << PRECISION


def test_the_nearest_bin_is_the_bin_of_its_own_middle() -> None:
    for bits in (1, 5, 10):
        at = np.arange(1 << bits)
        assert (nearest_bins(centres(bits), bits) == at).all()
        assert np.abs(values(at, bits) * (1 << GRID) - centres(bits)).max() == 0

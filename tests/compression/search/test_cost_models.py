"""Costs of plans that were never measured: exact where they add up as said."""

from __future__ import annotations

import numpy as np
import pytest

from niwaki.compression.arithmetic import LayerCost
from niwaki.compression.search.choices import FLOAT, Choices
from niwaki.compression.search.cost_models import fit_bytes, fit_latency
from niwaki.compression.search.profile import Profile, profile_of
from niwaki.core.contract import NiwakiError

LAYERS = ("a", "b", "c")


def profiles(count: int) -> list[Profile]:
    """Plans of three convolutions, of random widths, precision and passes."""
    rng = np.random.default_rng(0)
    out = []
    for _ in range(count):
        costs = {
            name: LayerCost("Conv2d", int(rng.integers(1e4, 1e6)), int(rng.integers(1e3, 1e5)), 10, 500)
            for name in LAYERS
        }
        bits = {name: int(rng.choice([4, 8, FLOAT])) for name in LAYERS}
        out.append(profile_of(costs, Choices({}, bits), passes=float(rng.choice([1, 4]))))
    return out


def milliseconds(profile: Profile, factor: float = 1.0) -> float:
    """0.1 ms a call, 0.02 a pass, 1 ns a float multiplication, a quarter of it for integers."""
    rate = {"float": 1e-6, "integer": 0.25e-6}
    work = sum(
        rate[precision] * amount * (factor if layer == "b" else 1.0)
        for (layer, _, precision), amount in profile.work.items()
    )
    return 0.1 + 0.02 * profile.passes + work


def test_a_latency_that_adds_up_over_layers_is_found_exactly() -> None:
    known, unknown = profiles(16)[:12], profiles(16)[12:]
    model = fit_latency(known, [milliseconds(p) for p in known])
    assert model.quality.error < 1e-3
    assert model.quality.tau == pytest.approx(1.0)
    for profile in unknown:
        assert model.predict(profile) == pytest.approx(milliseconds(profile), rel=1e-3)
        assert sum(model.parts(profile).values()) == pytest.approx(model.predict(profile))


def test_a_group_of_its_own_speed_has_its_own_factor() -> None:
    known = profiles(30)
    slow = [milliseconds(p, factor=5.0) for p in known]
    model = fit_latency(known, slow)
    assert model.factors["b"] > 1.3 * model.factors["a"]
    kinds_alone = np.median([abs(model.predict(p) / t - 1) for p, t in zip(known, slow, strict=True)])
    assert kinds_alone < 0.1


def test_bytes_are_a_sum_over_the_bits_of_weights() -> None:
    known = profiles(12)

    def size(profile: Profile) -> float:
        return 5000 + sum(weights * bits / 8 for bits, weights in profile.stored.items())

    model = fit_bytes(known, [size(p) for p in known])
    assert model.predict(known[0]) == pytest.approx(size(known[0]), rel=1e-3)
    assert model.quality.slack < 1e-3


def test_no_rate_is_negative_and_noise_shows_in_the_quality() -> None:
    known, rng = profiles(12), np.random.default_rng(1)
    model = fit_latency(known, [milliseconds(p) * float(rng.uniform(0.5, 2.0)) for p in known])
    assert (model.rates >= 0).all()
    assert model.quality.error > 0.02
    assert model.quality.worst > 0


def test_too_few_plans_are_refused() -> None:
    with pytest.raises(NiwakiError, match="at least three"):
        fit_latency(profiles(2), [1.0, 2.0])

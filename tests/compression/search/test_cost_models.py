"""Costs of plans that were never measured: exact where they add up as said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from niwaki.compression.arithmetic import LayerCost
from niwaki.compression.search.choices import FLOAT, Choices
from niwaki.compression.search.cost_models import fit_bytes, fit_latency, fit_memory
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


def test_two_bundles_timed_with_two_numbers_of_passes_tell_what_any_number_takes() -> None:
    costs = [{"a": LayerCost("Conv2d", macs, 1000, 10, 0)} for macs in (1_000_000, 300_000)]
    plans = [profile_of(c, Choices({}, {"a": 8}), passes=p) for c in costs for p in (7, 2)]
    model = fit_latency(plans, [milliseconds(p) for p in plans], ["whole", "whole", "cut", "cut"])
    assert model.quality.plans == 2
    wanted = profile_of(costs[0], Choices({}, {"a": 8}), passes=30)
    assert model.predict(wanted) == pytest.approx(milliseconds(wanted), rel=1e-3)
    # Nothing was timed in float: it counts as integers do, and not as nothing.
    in_float = profile_of(costs[0], Choices({}, {}), passes=30)
    assert model.predict(in_float) == pytest.approx(model.predict(wanted))


def test_a_plan_is_left_out_with_all_that_was_timed_of_its_bundle() -> None:
    rng = np.random.default_rng(1)
    known = [profile for profile in profiles(6) for _ in range(2)]
    noisy = [milliseconds(p) * float(rng.uniform(0.5, 2.0)) for p in known]
    alone, together = (fit_latency(known, noisy, plans) for plans in (None, [str(k // 2) for k in range(12)]))
    assert together.quality.plans == 6
    assert together.quality.error != alone.quality.error


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


def test_peak_memory_is_the_engine_the_weights_and_what_is_live() -> None:
    rng = np.random.default_rng(2)
    known = [replace(p, live=float(rng.uniform(1e5, 1e7))) for p in profiles(12)]

    def peak(profile: Profile) -> float:
        weights = sum(weights * bits / 8 for bits, weights in profile.stored.items())
        return 14e6 + 2 * weights + 1.5 * profile.live

    model = fit_memory(known, [peak(p) for p in known])
    wide = replace(known[0], live=5 * known[0].live)
    assert model.predict(wide) == pytest.approx(peak(wide), rel=1e-3)


def test_no_rate_is_negative_and_noise_shows_in_the_quality() -> None:
    known, rng = profiles(12), np.random.default_rng(1)
    model = fit_latency(known, [milliseconds(p) * float(rng.uniform(0.5, 2.0)) for p in known])
    assert (model.rates >= 0).all()
    assert model.quality.error > 0.02
    assert model.quality.worst > 0


def test_too_few_plans_are_refused() -> None:
    with pytest.raises(NiwakiError, match="at least three"):
        fit_latency(profiles(2), [1.0, 2.0])


def test_two_bundles_test_no_prediction_and_leave_a_fixed_room() -> None:
    costs = [{"a": LayerCost("Conv2d", macs, 1000, 10, 0)} for macs in (1_000_000, 300_000)]
    plans = [profile_of(c, Choices({}, {"a": 8}), passes=p) for c in costs for p in (7, 2)]
    model = fit_latency(plans, [milliseconds(p) for p in plans], ["whole", "whole", "cut", "cut"])
    assert model.quality.slack <= 0.2
    assert "too few to tell" in model.quality.text

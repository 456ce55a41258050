"""Margins: estimates with noise, and verdicts that go without where there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from evaluation.scenes import CENTRES, MODES, D, scene

from niwaki.evaluation import compare
from niwaki.evaluation.equivalence.margins import (
    DIVERSITY,
    FIDELITY,
    SHARE,
    Margin,
    diversity_margin,
    fidelity_margin,
)
from niwaki.evaluation.equivalence.paired import Change
from niwaki.evaluation.equivalence.planted import drop_sets, dropped
from niwaki.evaluation.equivalence.verdict import decide
from niwaki.evaluation.pairwise.neighbourhood import neighbourhood, rarefied_coverage
from niwaki.evaluation.statistics.result import Z95


def judge(digits: Any, before: np.ndarray, after: np.ndarray, **options: Any) -> Any:
    return compare(before, after, digits.dataset, digits.extractors, labels=digits.labels, **options)


@pytest.fixture(scope="module")
def untrained(digits: Any) -> np.ndarray:
    """What a network makes before it has learnt anything: flat pictures, which blur does not change."""
    level = np.random.default_rng(0).uniform(-1, 1, (len(digits.samples), 1, 1, 1))
    return np.broadcast_to(level, digits.samples.shape).astype(np.float32)


def test_where_ruining_costs_nothing_there_is_no_verdict_on_fidelity(digits: Any, untrained: Any) -> None:
    noise = np.random.default_rng(1).normal(size=untrained.shape).astype(np.float32)
    for after in (untrained + 0.02 * noise, untrained[::-1], digits.samples):
        found = judge(digits, untrained, after).fidelity
        assert found.outcome == "inconclusive"
        assert found.n_needed is None
        assert found.margin <= Z95 * found.margin_noise
        assert "no better than ruined ones, so no margin can be calibrated" in found.text
        assert "train the model longer (more train.steps)" in found.text


def test_identical_samples_are_no_loss_at_any_margin(digits: Any, untrained: Any) -> None:
    found = judge(digits, untrained, untrained.copy())
    assert found.fidelity.outcome == "no loss"
    assert found.fidelity.margin <= Z95 * found.fidelity.margin_noise
    assert "every sample is the same" in found.fidelity.text


def test_a_difference_of_0_between_other_samples_is_no_proof() -> None:
    """Both may be ruined beyond what the statistic resolves."""
    change = Change(-2.0, -2.0, 0.0, 0.0, 0.0, 1.0, (0.0,))
    assert decide(FIDELITY, change, 0.0, 1000, 1.0, ["x"], "").outcome == "inconclusive"
    assert decide(FIDELITY, change, 0.0, 1000, 1.0, ["x"], "", identical=True).outcome == "no loss"


def test_a_collapsed_model_has_no_margin_of_diversity(digits: Any) -> None:
    rng = np.random.default_rng(0)
    one = digits.samples[:1] + 0.01 * rng.normal(size=digits.samples.shape).astype(np.float32)
    found = judge(digits, one, one[::-1]).diversity
    assert found.outcome == "inconclusive"
    assert "leaving out whole modes" in found.text


def test_the_callers_margins_settle_it(digits: Any, untrained: Any) -> None:
    noise = np.random.default_rng(1).normal(size=untrained.shape).astype(np.float32)
    found = judge(digits, untrained, untrained + 0.01 * noise, margins={"fidelity": 0.5}).fidelity
    assert found.outcome == "no loss"
    assert found.margin_noise == 0


def test_a_margin_within_its_noise_decides_nothing() -> None:
    for delta, without in ((0.0, "no loss"), (1.0, "loss")):
        change = Change(1.0, 1.0 - delta, 1e-6, 0.0, 0.0, 0.5, (delta,))
        kept = decide(FIDELITY, change, 0.1, 1000, 0.5, ["x"], "", noise=0.1 / Z95 - 1e-6)
        assert kept.outcome == without
        lost = decide(FIDELITY, change, 0.1, 1000, 0.5, ["x"], "", noise=0.1 / Z95 + 1e-6)
        assert lost.outcome == "inconclusive"
        assert lost.margin_noise == 0.1 / Z95 + 1e-6


def test_the_noise_of_the_margin_of_fidelity_is_its_spread_over_repeats() -> None:
    rng = np.random.default_rng(0)
    found = [fidelity_margin(rng.normal(0.6, 1.0, 200)) for _ in range(400)]
    values, noises = (np.array([getattr(m, name) for m in found]) for name in ("value", "noise"))
    assert values.mean() == pytest.approx(SHARE * 0.6, rel=0.05)
    assert np.sqrt((noises**2).mean()) == pytest.approx(values.std(ddof=1), rel=0.15)


def test_sets_of_modes_hold_about_the_share() -> None:
    mode = np.repeat(np.arange(6), [7, 22, 34, 54, 44, 839])
    sets = drop_sets(mode, 0.05, 0)
    held = np.bincount(mode) / 1000
    assert all(0.04 <= held[one].sum() <= 0.06 for one in sets)
    assert {tuple(np.flatnonzero(one)) for one in sets} == {(3,), (4,), (0, 2), (0, 4), (1, 2)}
    halves = np.repeat([0, 1], [920, 80])
    assert drop_sets(halves, 0.05, 0).tolist() == [[False, True]], "the nearest, of at most twice the share"
    assert len(drop_sets(np.repeat([0, 1], 500), 0.05, 0)) == 0
    assert len(drop_sets(np.zeros(90, int), 0.05, 0)) == 0
    many = drop_sets(np.repeat(np.arange(40), 10), 0.05, 0)
    assert len(many) == 100, "not all 780"
    assert np.array_equal(many, drop_sets(np.repeat(np.arange(40), 10), 0.05, 0))


def test_what_is_dropped_is_made_no_more_and_all_else_stays() -> None:
    mode = np.repeat([3, 5, 9], [10, 20, 30])
    made = dropped(mode, np.array([False, True, False]), np.random.default_rng(0))
    assert 5 not in mode[made]
    np.testing.assert_array_equal(made[mode != 5], np.flatnonzero(mode != 5))


@pytest.fixture(scope="module")
def of_modes() -> Margin:
    """Of the twenty modes of `scenes`, each about 5 %."""
    rng = np.random.default_rng(0)
    mode = rng.integers(0, MODES, 600)
    real = CENTRES[rng.integers(0, MODES, 300)] + rng.normal(size=(300, D))
    before = CENTRES[mode] + rng.normal(size=(600, D))
    return diversity_margin([neighbourhood(real, before)], [mode], 300, 0)


@pytest.mark.slow
def test_hardly_any_lost_mode_passes_as_none(of_modes: Margin) -> None:
    assert of_modes.calibrated
    lost, intact = ([scene("drop", share, 600, 300, s)[1] for s in range(60)] for share in (0.05, 0.0))
    assert of_modes.value < np.mean([c.delta for c in lost])
    passed = [c.interval()[1] < of_modes.value for c in lost]
    assert np.mean(passed) <= 0.12  # more than 7 of 60 at 5 % has a chance of 2 %
    assert np.mean([c.interval()[1] < of_modes.value for c in intact]) > 0.95


def test_what_passes_is_decided_by_the_cheapest_mode_and_not_by_the_average() -> None:
    """Every other mode lies on its neighbour, so that losing it costs nothing."""
    rng = np.random.default_rng(1)
    centres = 6 * rng.normal(size=(20, 4))
    centres[1::2] = centres[::2]
    mode = rng.integers(0, 20, 800)
    real = centres[rng.integers(0, 20, 300)] + rng.normal(size=(300, 4))
    place = neighbourhood(real, centres[mode] + rng.normal(size=(800, 4)))
    whole = np.array(
        [
            rarefied_coverage(place.counts(mode // 2 != c), int((mode // 2 != c).sum()), 300).mean()
            for c in range(10)
        ]
    )
    average = (rarefied_coverage(place.counts(), 800, 300).mean() - whole).mean() / 2
    assert diversity_margin([place], [mode], 300, 0).value < 0.6 * average


def test_where_dropping_modes_costs_nothing_there_is_no_margin_of_diversity() -> None:
    rng = np.random.default_rng(2)
    real, before = rng.normal(size=(200, 3)), 0.01 * rng.normal(size=(400, 3))
    margin = diversity_margin([neighbourhood(real, before)], [rng.integers(0, 20, 400)], 200, 0)
    assert not margin.calibrated
    assert diversity_margin([neighbourhood(real, before)], [np.zeros(400, int)], 200, 0) == Margin(0.0)


def test_too_few_real_samples_of_a_mode_give_no_margin_and_say_how_many_would() -> None:
    rng = np.random.default_rng(3)
    real, before = rng.normal(size=(199, 3)), rng.normal(size=(398, 3))
    margin = diversity_margin([neighbourhood(real, before)], [rng.integers(0, 20, 398)], 199, 0)
    assert margin == Margin(0.0, fewest=400)
    change = Change(0.5, 0.3, 1e-4, 1e-4, 0.0, 0.01, (0.2,))
    fewest = margin.fewest
    found = decide(DIVERSITY, change, margin.value, 398, 1.0, ["f"], "s", fewest=fewest, real=199)
    assert (found.outcome, found.n_needed) == ("inconclusive", 400)
    assert ": 400 samples are needed, and there are 398. As far" in found.text
    found = decide(DIVERSITY, change, margin.value, 1000, 1.0, ["f"], "s", fewest=fewest, real=114)
    assert (found.outcome, found.n_needed) == ("inconclusive", None), "more pairs would not help"
    assert ": 200 real samples are needed, and the test split has 114. As far" in found.text
    found = decide(DIVERSITY, change, margin.value, 300, 1.0, ["f"], "s", fewest=fewest, real=114)
    assert "there are 300; 200 real samples are needed, and the test split has 114" in found.text


def test_good_samples_have_margins_well_above_their_noise(digits: Any) -> None:
    found = judge(digits, digits.samples, digits.others)
    for verdict in (found.fidelity, found.diversity):
        assert verdict.margin > 5 * verdict.margin_noise > 0

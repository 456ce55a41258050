"""Margins: estimates with noise, and verdicts that go without where there are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from niwaki.evaluation import compare
from niwaki.evaluation.margins import FIDELITY, SHARE, Costs, Margin, margins_of
from niwaki.evaluation.paired import Change
from niwaki.evaluation.result import Z95
from niwaki.evaluation.verdict import decide


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
        assert "train the model longer or pass margins=…" in found.text


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


def test_the_noise_of_a_margin_is_its_spread_over_repeats() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        share = rng.uniform(0.03, 0.07, 15)
        lost = 0.4 * share + 0.01 * rng.normal(size=15)
        found.append(margins_of([Costs(rng.normal(0.6, 1.0, 200), lost, share)]))
    for axis, truth in (("fidelity", SHARE * 0.6), ("diversity", SHARE * 0.4)):
        values = np.array([f[axis].value for f in found])
        noises = np.array([f[axis].noise for f in found])
        assert values.mean() == pytest.approx(truth, rel=0.05)
        assert np.sqrt((noises**2).mean()) == pytest.approx(values.std(ddof=1), rel=0.15)


def test_extractors_share_the_ruined_samples_so_that_their_average_is_tested() -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(0.5, 1.0, 300)
    parts = [Costs(common + s * 3.0, np.full(4, 0.02), np.full(4, 0.05)) for s in (-1, 1)]
    both = margins_of(parts)
    assert both["fidelity"].value == pytest.approx(SHARE * common.mean())
    assert both["diversity"] == Margin(pytest.approx(SHARE * 0.4), pytest.approx(0.0, abs=1e-12))


def test_good_samples_have_margins_well_above_their_noise(digits: Any) -> None:
    found = judge(digits, digits.samples, digits.others)
    for verdict in (found.fidelity, found.diversity):
        assert verdict.margin > 5 * verdict.margin_noise > 0

"""Early decisions: the rates that are promised."""

from __future__ import annotations

import math

import numpy as np
import pytest

from niwaki.compression.search.rejection import EarlyTest, pseudo_values
from niwaki.core.errors import CallError


def _decisions(mean, runs, blocks=15, seed=0, skewed=False):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(runs):
        test = EarlyTest()
        noise = rng.gamma(25.0, size=(blocks, 2)) / 5.0 - 5.0 if skewed else rng.normal(size=(blocks, 2))
        for f, d in noise * 0.5 + np.asarray(mean):
            if test.add(float(f), float(d)) != "go on":
                break
        found.append(test.decision)
    return {d: found.count(d) / runs for d in ("reject", "accept", "go on")}


@pytest.mark.parametrize("skewed", [False, True])
def test_what_lies_on_the_margin_is_hardly_ever_rejected_or_accepted(skewed):
    both = _decisions((1.0, 1.0), 200, skewed=skewed)
    assert both["reject"] <= 0.05
    one = _decisions((1.0, -3.0), 200, skewed=skewed)  # the other axis says yes at once
    assert one["reject"] <= 0.05
    assert one["accept"] <= 0.05


def test_what_is_clear_is_seen_early():
    assert _decisions((3.0, 0.0), 40, blocks=15)["reject"] > 0.95
    assert _decisions((0.0, 3.0), 40, blocks=15)["reject"] > 0.95
    assert _decisions((0.0, 0.0), 40, blocks=20)["accept"] > 0.95


def test_a_decision_stands():
    test = EarlyTest(fewest=4)
    rng = np.random.default_rng(1)
    values = 5.0 + 0.1 * rng.normal(size=8)
    said = [test.add(float(v), 0.1 * float(v)) for v in values]
    assert said == ["go on"] * said.index("reject") + ["reject"] * (8 - said.index("reject"))
    assert test.add(-100.0, 0.0) == "reject"
    assert test.blocks == 9


def test_pseudo_values_of_a_mean_are_the_values_and_of_a_variance_are_without_bias():
    x = np.random.default_rng(2).normal(size=(7, 10))
    assert pseudo_values(lambda b: float(np.mean(b)), list(x)) == pytest.approx(x.mean(1))
    # θ = population variance, of bias −σ²/n: the jackknife of single values is the unbiased estimate
    one = x[:, 0]
    assert pseudo_values(lambda b: float(np.var(b)), list(one)).mean() == pytest.approx(one.var(ddof=1))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: EarlyTest(alpha=0.0), "between 0 and 1"),
        (lambda: EarlyTest(fewest=1), "at least two"),
        (lambda: EarlyTest().add(math.nan, 0.0), "not finite"),
        (lambda: EarlyTest().look([1.0], [1.0, 2.0]), "both axes"),
        (lambda: pseudo_values(lambda b: 0.0, [1]), "at least two"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(call, words):
    with pytest.raises(CallError, match=words):
        call()

"""Strengths of compared items, agreement of raters, and the number of answers a study needs."""

from __future__ import annotations

import numpy as np
import pytest

from niwaki.evaluation.preferences.agreement import agreement
from niwaki.evaluation.preferences.bradley_terry import Answer, fit_strengths
from niwaki.evaluation.preferences.planning import answers_needed
from niwaki_runtime.errors import CallError, NiwakiError


def answers(strength, n, seed=0, nu=0.0, raters=1):
    rng = np.random.default_rng(seed)
    names = list("abcdefgh")[: len(strength)]
    out = []
    for k in range(n):
        i, j = rng.choice(len(names), 2, replace=False)
        p = np.exp([strength[i], strength[j], (strength[i] + strength[j]) / 2])
        p[2] *= nu
        winner = rng.choice(3, p=p / p.sum())
        out.append(Answer(names[i], names[j], None if winner == 2 else int(winner), f"r{k % raters}"))
    return out


def test_strengths_come_back():
    true = np.array([-1.0, -0.2, 0.3, 0.9])
    found = fit_strengths(answers(true, 6000))
    assert found.strength == pytest.approx(true - true.mean(), abs=0.1)
    assert found.strength.sum() == pytest.approx(0, abs=1e-9)
    assert found.chance("d", "a")[0] == pytest.approx(1 / (1 + np.exp(-1.9)), abs=0.03)


def test_two_items_have_the_closed_form():
    """log(wins/losses), the prior's tenth of an answer apart."""
    said = [Answer("a", "b", 0)] * 300 + [Answer("a", "b", 1)] * 100
    found = fit_strengths(said)
    assert found.strength[0] - found.strength[1] == pytest.approx(np.log(3), abs=0.005)
    assert found.chance("a", "b")[0] == pytest.approx(0.75, abs=0.002)


def test_ties_are_davidsons():
    found = fit_strengths(answers([0.5, -0.5, 0.0], 8000, nu=0.7))
    assert found.ties == pytest.approx(0.7, rel=0.1)
    assert found.strength == pytest.approx([0.5, -0.5, 0.0], abs=0.1)


@pytest.mark.parametrize("raters", [1, 40])
def test_intervals_hold_the_truth_as_often_as_they_say(raters):
    true = np.array([-0.5, 0.0, 0.5])
    inside = [
        (f.interval[:, 0] <= true) & (true <= f.interval[:, 1])
        for f in (fit_strengths(answers(true, 200, seed=s, raters=raters)) for s in range(80))
    ]
    assert 0.88 <= np.mean(inside) <= 1.0


def test_answers_of_few_raters_who_agree_with_themselves_alone_are_worth_less():
    """Every rater has a taste: intervals that take the answers as independent would be too narrow."""
    rng = np.random.default_rng(0)
    said = []
    for rater in range(12):
        taste = rng.normal(0, 2)
        said += [
            Answer("a", "b", int(rng.random() > 1 / (1 + np.exp(-taste))), f"r{rater}") for _ in range(50)
        ]
    together = fit_strengths(said)
    alone = fit_strengths([Answer(a.first, a.second, a.winner, str(k)) for k, a in enumerate(said)])
    width = lambda f: f.interval[0, 1] - f.interval[0, 0]  # noqa: E731
    assert width(together) > 2 * width(alone)


def test_what_always_won_has_a_finite_strength_and_an_open_rank():
    found = fit_strengths([Answer("a", "b", 0)] * 3)
    assert 0 < found.strength[0] < 10
    assert found.ranks("a") == (1, 2)
    assert fit_strengths([Answer("a", "b", 0)] * 60).ranks("a") == (1, 1)


def test_items_that_were_never_compared_are_named():
    with pytest.raises(NiwakiError, match="never compared"):
        fit_strengths([Answer("a", "b", 0), Answer("c", "d", 1)])
    with pytest.raises(CallError, match="no answers"):
        fit_strengths([])


def test_agreement_is_krippendorffs():
    """The example of Krippendorff 2011, C: nominal data of four observers, α = 0.743."""
    rows = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    ratings = [
        (f"q{q}", f"r{r}", v) for r, row in enumerate(rows) for q, v in enumerate(row) if v is not None
    ]
    found = agreement(ratings)
    assert found is not None
    value, (low, high) = found
    assert value == pytest.approx(0.743, abs=5e-4)
    assert low < value < high


def test_agreement_of_one_answer_a_question_is_not_known():
    assert agreement([("q1", "a", 1), ("q2", "a", 2)]) is None
    assert agreement([("q1", "a", 1), ("q1", "b", 1)]) == (1.0, (1.0, 1.0))


def test_as_many_answers_as_planned_see_the_preference_as_often_as_planned():
    n = answers_needed(0.6)
    assert n == 194  # the textbook's number for 60 % against 50 %, level 5 %, power 80 %
    rng = np.random.default_rng(0)
    share = rng.binomial(n, 0.6, 4000) / n
    seen = np.abs(share - 0.5) > 1.96 * np.sqrt(0.25 / n)
    assert seen.mean() == pytest.approx(0.8, abs=0.03)


def test_ties_and_answers_of_one_rater_cost_more_answers():
    assert answers_needed(0.6, ties=0.5) == pytest.approx(2 * answers_needed(0.6), abs=2)
    assert answers_needed(0.6, per_rater=11, within_rater=0.1) == pytest.approx(
        2 * answers_needed(0.6), abs=2
    )
    with pytest.raises(CallError, match="between"):
        answers_needed(0.5)

"""What holds for every judge: found by folder, spoken in order, and refusing what it cannot judge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from evaluation.toy_runners import Toy, one_shot
from evaluation.vectors import vector_dataset

from niwaki.core.contract import CallError, Real, ValueSpec
from niwaki.evaluation.equivalence.items import Scores, item_verdicts, other_items, planted_margin
from niwaki.evaluation.equivalence.margins import Margin
from niwaki.evaluation.equivalence.verdict import Axis
from niwaki.evaluation.judges import Tools, judge_names, judges_for
from niwaki.evaluation.judges.running import margins_from_json, margins_to_json

AXIS = Axis(
    "fidelity", "score", "the score rose", "the score fell", "damage would cost", "there is no margin"
)


@pytest.fixture(scope="module")
def dataset() -> Any:
    return vector_dataset(np.random.default_rng(0), np.zeros((2, 6)), (60, 40, 60))


def test_all_judges_are_found_in_the_order_of_their_ranks() -> None:
    assert judge_names() == [
        "samples", "answers", "predictions", "forecast", "likelihood", "translation", "restoration",
    ]  # fmt: skip


def test_a_model_that_nobody_can_judge_is_told_so(dataset: Any) -> None:
    output = ValueSpec("vector", (3,), "C", Real(-1.0, 1.0))
    other = Toy({"sample": one_shot("make", output, (3,))}, {"make": lambda z: z})
    with pytest.raises(CallError, match="no judge can say anything"):
        judges_for(other, dataset, Tools(list))
    with pytest.raises(CallError, match="there is no judge 'sample'; did you mean 'samples'"):
        judges_for(other, dataset, Tools(list), ("sample",))
    with pytest.raises(CallError, match="has nothing to judge"):
        judges_for(other, dataset, Tools(list), ("forecast",))


def test_a_planted_margin_is_its_share_of_the_mean_cost() -> None:
    cost = np.random.default_rng(0).normal(2.0, 1.0, 400)
    found = planted_margin(cost)
    assert found.value == pytest.approx(0.05 * cost.mean())
    assert found.noise == pytest.approx(0.05 * cost.std(ddof=1) / 20)
    assert planted_margin(-cost).value == 0.0
    assert margins_from_json(margins_to_json({"fidelity": found})) == {"fidelity": found}
    with pytest.raises(CallError, match="at least 20 items"):
        planted_margin(cost[:19])


def test_other_items_are_a_permutation_without_fixed_points() -> None:
    for n in (2, 3, 50):
        other = other_items(n, 0)
        assert sorted(other) == list(range(n))
        assert (other != np.arange(n)).all()


def test_the_interval_of_a_paired_mean_is_that_of_students_table() -> None:
    rng = np.random.default_rng(0)
    before, lost = rng.normal(size=2000), rng.normal(0.1, 0.2, 2000)
    found = item_verdicts(
        {"fidelity": Scores(AXIS, before, before - lost)}, {"fidelity": Margin(0.2)}, name="x", signature="s"
    )["fidelity"]
    error = lost.std(ddof=1) / np.sqrt(2000)
    assert found.delta == pytest.approx(lost.mean())
    np.testing.assert_allclose(found.interval, lost.mean() + np.array([-1.96, 1.96]) * error, atol=2e-4)
    assert found.outcome == "no loss"
    assert "a small loss, inside the margin" in found.text
    noisy = item_verdicts(
        {"fidelity": Scores(AXIS, before, before - lost)},
        {"fidelity": Margin(0.2, noise=0.09)}, name="x", signature="s",
    )["fidelity"]  # fmt: skip
    assert noisy.outcome == "inconclusive", "the margin is nearly within its own noise"


@pytest.mark.parametrize("bad", [np.zeros(19), np.zeros(30), np.full(25, np.nan)])
def test_scores_that_make_no_pairs_are_refused(bad: np.ndarray) -> None:
    good = np.zeros(19 if len(bad) == 19 else 25)
    with pytest.raises(CallError):
        item_verdicts(
            {"fidelity": Scores(AXIS, good, bad)}, {"fidelity": Margin(1.0)}, name="x", signature="s"
        )

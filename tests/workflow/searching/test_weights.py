"""What parts cost: measured where they were, by the errors of outputs where there was no time."""

from __future__ import annotations

import pytest

from niwaki.compression.search.choices import FLOAT, HALF
from niwaki.workflow.searching.part_trials import PartTrial
from niwaki.workflow.searching.weighing import _most_telling
from niwaki.workflow.searching.weights import Weights


def test_what_was_not_measured_costs_as_much_for_its_error_as_what_was() -> None:
    rows = {("weights", "a", 4.0): (2.0, 1.0), ("weights", "b", 4.0): (1.0, 0.0)}
    errors = {("weights", "a", 4.0): 0.2, ("weights", "b", 4.0): 0.1, ("weights", "c", 4.0): 0.4}
    weights = Weights(rows, errors)
    assert weights.rounded("c", 4) == pytest.approx((4.0, 4 / 3))  # 10 and 10/3 margins for an error of 1
    assert weights.rounded("a", 4) == (2.0, 1.0)  # measured
    assert weights.rounded("unknown", 4) == (1.5, 0.5)  # the middle of the others


def test_another_technique_lends_its_rate_where_none_of_its_own_was_measured() -> None:
    rows, errors = {("prune", "a", 0.5): (1.0, 1.0)}, {("prune", "a", 0.5): 0.5, ("drop", "b", 1.0): 0.25}
    assert Weights(rows, errors).without("b") == pytest.approx((0.5, 0.5))


def test_rounded_inputs_are_part_of_rounding_to_integers() -> None:
    rows = {("weights", "a", 4.0): (0.256, 0.256), ("activations", "a", 8.0): (1.5, 0.5)}
    weights = Weights(rows)
    assert weights.rounded("a", 8) == pytest.approx((1.501, 0.501))  # 0.256 · 4⁻⁴ of the weights
    assert weights.rounded("a", 4) == pytest.approx((1.756, 0.756))
    assert max(weights.rounded("a", HALF)) < 0.01
    assert weights.rounded("a", FLOAT) == (0.0, 0.0)
    del rows["activations", "a", 8.0]
    assert Weights(rows).rounded("a", 8) == pytest.approx((0.001, 0.001))  # weights alone


def test_changes_of_the_largest_errors_are_judged_first_in_turns_of_the_techniques() -> None:
    def trial(technique: str, layer: str) -> PartTrial:
        return PartTrial(technique, layer, 1.0, lambda: None)  # type: ignore[arg-type,return-value]

    todo = [trial("weights", "a"), trial("weights", "b"), trial("drop", "c"), trial("prune", "d")]
    errors = {("weights", "a", 1.0): 0.1, ("weights", "b", 1.0): 0.9, ("drop", "c", 1.0): 0.5}
    assert [t.layer for t in _most_telling(todo, errors)] == ["b", "c", "a", "d"]

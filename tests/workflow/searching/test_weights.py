"""What parts cost: measured where they were, by the errors of outputs where there was no time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from niwaki.compression.search.choices import FLOAT, HALF, Choices
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.searching import foreseeing
from niwaki.workflow.searching.candidate import Candidate
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


def test_whole_plans_are_ordered_by_what_they_do_to_the_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    error = {"gentle": 0.1, "harsh": 0.4, "fewer": 0.05}
    probe: Any = SimpleNamespace(error=SimpleNamespace(of=lambda made: error[made]))
    rows = {("prune", "a", 0.5): (1.0, 0.0), ("sampling", "", 4.0): (3.0, 0.0)}
    weights = Weights(rows, {("prune", "a", 0.5): 0.2}, probe)  # 5 margins of fidelity for an error of 1
    monkeypatch.setattr(foreseeing, "_cut", lambda search, choices, weights: choices.origin)
    pool = [
        Candidate(Choices({"a": 0.9}, origin="harsh"), {"size": 1.0}),
        Candidate(Choices({"a": 0.2}, evaluations=4, origin="fewer"), {"size": 1.0}),
        Candidate(Choices({"a": 0.1}, origin="outside"), {"size": 9.0}),
        Candidate(Choices({"a": 0.5}, origin="gentle"), {"size": 1.0}),
    ]
    search: Any = SimpleNamespace(limits={"size": 5.0}, run=SimpleNamespace(reporter=Quiet()))
    found = foreseeing.foreseen(search, pool, weights, 10.0)
    assert [c.choices.origin for c in found] == ["gentle", "harsh", "fewer", "outside"]  # 0.5, 2, 0.25 + 3
    assert foreseeing.foreseen(search, pool, Weights(rows), 10.0) == pool  # all was judged


def test_errors_of_rounding_follow_the_law_of_its_losses() -> None:
    """A quarter with each bit; what the layer is given counts where both are integers."""
    errors = {("weights", "a", 4.0): 0.16, ("activations", "a", 8.0): 0.02}
    found = Weights(errors=errors)
    assert found.rounding_error("a", 4) == pytest.approx(0.18)
    assert found.rounding_error("a", 8) == pytest.approx(0.16 / 256 + 0.02)
    assert found.rounding_error("a", HALF) == pytest.approx(0.16 / 4**12)
    assert found.rounding_error("a", FLOAT) == found.rounding_error("b", 4) == 0.0

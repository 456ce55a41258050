"""What a search judges by is never the test split; what has no margin proves nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from niwaki.compression.search.choices import Choices
from niwaki.core.contract import CallError, NiwakiError
from niwaki.data import DataConfig, Dataset, load
from niwaki.evaluation import EvaluateConfig
from niwaki.evaluation.equivalence.paired import Change
from niwaki.evaluation.equivalence.verdict import Axis, Verdict, decide
from niwaki.evaluation.judges import Verdicts
from niwaki.workflow.searching.affording import affordable
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.rehearsal import Rehearsal, rehearsed


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DataConfig(source="digits"))


def rows(x: object) -> set[bytes]:
    return {row.tobytes() for row in np.asarray(x)}


def test_no_row_of_the_test_split_is_judged_by(digits: Dataset) -> None:
    found = rehearsed(digits)
    test = rows(digits.test.x)
    for split in found.splits.values():
        assert not rows(split.x) & test


def test_validation_samples_come_first_and_enough_of_training_follow(digits: Dataset) -> None:
    found = rehearsed(digits)
    known = len(digits.validation)
    assert len(found.test) >= 360
    assert rows(found.test.x[:known]) == rows(digits.validation.x)
    assert rows(found.test.x[known:]) <= rows(digits.train.x)
    assert not rows(found.test.x) & rows(found.validation.x)
    assert found.test.y is not None
    assert len(found.test.y) == len(found.test)
    assert found.fingerprint != digits.fingerprint


class Fake:
    """A judge whose margins are `margin` times the samples over 400 (its noise is 0.01), and who sees no
    change."""

    calibrates = "test"

    def __init__(self, name: str, axes: tuple[str, ...], margin: float, silent: str = "") -> None:
        self.name, self.axes, self.margin, self.silent = name, axes, margin, silent

    def evidence(self, runner: Any, dataset: Any, split: str, n: int, seed: int) -> Any:
        return SimpleNamespace(n=n, judge=self.name)

    def margins(self, evidence: Any, dataset: Any, n: int) -> Any:
        if self.silent:
            raise CallError(self.silent)
        return self.margin * n / 400

    def compare(self, before: Any, after: Any, margins: Any, dataset: Any) -> Verdicts:
        return Verdicts(self.name, after.n, {a: self.verdict(a, margins, after.n) for a in self.axes})

    def verdict(self, axis: str, margin: float, n: int) -> Verdict:
        none = Change(0.5, 0.5, 1e-8, 0.0, 0.0, 1.0, (0.0,))
        words = Axis(axis, "coverage", "better", "worse", "what 5 % would cost", "nothing costs any")
        return decide(words, none, margin, n, 1.0, ["random"], "s", noise=0.01)


def judged(digits: Dataset, *judges: Fake) -> Rehearsal:
    context: Any = SimpleNamespace(dataset=digits, config=EvaluateConfig(), seed=0, cache=None, extractors=[])
    found = Rehearsal(context, context, n=400, seed=0)
    found.__dict__["judges"] = judges
    return found


def test_an_axis_without_a_margin_is_not_shown_to_lose_nothing(digits: Dataset) -> None:
    found = judged(digits, Fake("samples", ("fidelity",), 1.0), Fake("other", ("diversity",), 0.0))
    candidate = Candidate(Choices(), losses=found.losses(found.before))
    assert candidate.losses["fidelity"].outcome == "no loss"
    assert candidate.losses["diversity"].outcome == "inconclusive"
    assert not candidate.lossless
    assert found.unmeasured == ("diversity",)


def test_more_samples_are_judged_where_fewer_give_no_margin_and_without_any_it_ends(digits: Dataset) -> None:
    enough = judged(digits, Fake("samples", ("fidelity", "diversity"), 0.015))  # 1.96 noises at 523 samples
    assert affordable(enough, 400) > 523
    never = judged(digits, Fake("samples", ("fidelity",), 1.0), Fake("other", ("diversity",), 0.0))
    with pytest.raises(NiwakiError, match="no margin of diversity"):
        affordable(never, 400)


def test_a_judge_that_has_no_margins_leaves_the_word_to_the_next(digits: Dataset) -> None:
    silent = Fake("samples", ("fidelity", "diversity"), 1.0, silent="too few samples")
    found = judged(digits, silent, Fake("other", ("fidelity",), 1.0))
    assert found.losses(found.before)["fidelity"].outcome == "no loss"
    with pytest.raises(NiwakiError, match="too few samples"):
        judged(digits, silent).losses(found.before)

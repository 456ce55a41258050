"""States that are set aside: which of a plan's states can still ship, whatever training makes of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from workflow.searching.searches import candidate

from niwaki.core.store import read_json
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.finishing import ready
from niwaki.workflow.searching.rehearsal import Loss
from niwaki.workflow.searching.snapshots import take_snapshot
from niwaki.workflow.searching.state import Search


@pytest.fixture
def search(tmp_path: Path) -> Any:
    made = SimpleNamespace(path=tmp_path, candidates={}, limits={"size": 20e3})
    made.directory = lambda one: Search.directory(made, one)
    made.enter = lambda one: Search.enter(made, one)
    return made


def tried(search: Any, value: float, *, trained: tuple[int, ...] = (), bundled: bool = False) -> Candidate:
    """A plan whose steps lie there."""
    made = candidate(0.5, 10e3, value, "no loss" if value < 0.8 else "inconclusive")
    made.trained, made.bundled = trained, bundled
    steps = search.directory(made) / "steps" / "1-finetune"
    steps.mkdir(parents=True, exist_ok=True)
    (steps / "model.safetensors").unlink(missing_ok=True)  # a finished file is never written to
    (steps / "model.safetensors").write_text(str(value))
    search.enter(made)
    return made


def asides(search: Any) -> list[Candidate]:
    return [c for c in search.candidates.values() if c.snapshot]


def weights_of(search: Any, one: Candidate) -> str:
    return (search.directory(one) / "steps" / "1-finetune" / "model.safetensors").read_text()


def test_a_proven_state_ships_whatever_training_makes_of_its_plan(search: Any) -> None:
    proven = tried(search, 0.5, bundled=True)
    take_snapshot(search, proven)
    proven.trained, proven.bundled = (3,), False
    proven.losses = {"fidelity": Loss(1.6, (1.4, 1.8), "loss")}
    take_snapshot(search, proven)
    chosen = ready(search)
    assert chosen is not None
    assert (chosen.snapshot, chosen.trained, chosen.worst) == (True, (), 0.5)
    again = Candidate.from_json(read_json(search.directory(chosen) / "candidate.json"))
    assert again == chosen
    assert again.name != proven.name


def test_of_a_plan_the_best_state_stays_with_its_weights(search: Any) -> None:
    take_snapshot(search, tried(search, 1.5, trained=(3,)))
    take_snapshot(search, tried(search, 0.9, trained=(3, 20)))
    take_snapshot(search, tried(search, 1.2, trained=(3, 20, 40)))
    (aside,) = asides(search)
    assert (aside.trained, aside.worst) == ((3, 20), 0.9)
    assert weights_of(search, aside) == "0.9"
    assert weights_of(search, tried(search, 7.0, trained=(3, 20, 40, 80))) == "7.0"
    assert weights_of(search, aside) == "0.9"


@pytest.mark.parametrize(("value", "size"), [(2.5, 10e3), (0.5, 30e3)])
def test_what_cannot_ship_is_not_set_aside(search: Any, value: float, size: float) -> None:
    """Much was lost, or it is over the budget."""
    take_snapshot(search, candidate(0.5, size, value, "loss"))
    take_snapshot(search, Candidate(candidate(0.5, size, value, "loss").choices))  # never judged
    assert not asides(search)

"""Fewer evaluations are learnt once, in the time that is due to them, down to where too much is lost."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from niwaki.compression.config import DistillConfig
from niwaki.compression.search.choices import Choices
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.searching import fewer, trying
from niwaki.workflow.searching.weights import Weights


class World:
    """A clock that training moves; a model of 32 steps, and what learnt evaluations lose of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, place: Path, step: float, **config: Any) -> None:
        self.now, self.carried, self.lost = 0.0, list[Choices](), {8: 0.1, 4: 0.5, 2: 9.0, 1: 20.0}
        self.step = step
        self.search: Any = SimpleNamespace(
            template=SimpleNamespace(
                distill=DistillConfig(evaluations=4, **config),
                distilled=(8, 4, 2, 1),
                evaluations=(16, 8, 4),
                solvers=("ddim", "heun", "unipc"),
            ),
            path=place,
            limits={"latency": 1.0},
            run=SimpleNamespace(
                reporter=Quiet(), model=None, dataset=SimpleNamespace(train=None), recipe=None
            ),
        )
        monkeypatch.setattr(fewer.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(fewer, "diffusion_of", lambda model: SimpleNamespace(steps=32))
        monkeypatch.setattr(fewer, "_seconds_of_a_step", lambda search, config: step)
        monkeypatch.setattr(fewer, "_carried_out", self.learn)

    def learn(self, search: Any, way: Choices, config: DistillConfig) -> tuple[float, float]:
        before = self.carried[-1].distilled if self.carried else ()
        fresh = way.distilled[len(before) :] if way.distilled[: len(before)] == before else way.distilled
        self.now += self.step * sum(fresh)
        self.carried.append(way)
        return self.lost[way.evaluations], 0.0


def test_halvings_go_on_from_each_other_and_end_where_too_much_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, weights = World(monkeypatch, tmp_path, 0.1, steps=900), Weights()
    found = fewer.learn(world.search, weights, 200.0)
    assert [c.evaluations for c in found] == [8, 4, 2]  # what 2 lose is too much: 1 is not begun
    for before, after in pairwise(found):
        assert after.distilled[:-1] == before.distilled
    assert found[1].distilled == (600, 300)  # 32 → 16 → 8, then → 4: as many as the plan's 900 for all three
    assert weights.whole(found[1]) == (0.5, 0.0)
    assert world.now <= 200.0
    assert fewer.learn(world.search, weights, 200.0) == found
    assert len(world.carried) == 3  # nothing is learnt twice


@pytest.mark.parametrize("seconds", [40.0, 100.0])
def test_the_time_is_kept_and_too_little_of_it_begins_nothing(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch, tmp_path, 0.1, steps=900)
    world.lost[2] = 0.5
    fewer.learn(world.search, Weights(), seconds)
    assert 0.5 * seconds < world.now <= seconds
    slow = World(monkeypatch, tmp_path / "slow", 1.0, steps=900)
    assert fewer.learn(slow.search, Weights(), seconds) == ()
    assert slow.now == 0.0


def test_other_methods_learn_each_number_of_evaluations_from_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch, tmp_path, 0.01, steps=300, method="consistency")
    found = fewer.learn(world.search, Weights(), 200.0)
    assert [(c.evaluations, c.distilled) for c in found] == [(8, (300,)), (4, (300,)), (2, (300,))]


def test_nothing_is_learnt_where_the_budget_is_of_bytes_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch, tmp_path, 0.1)
    world.search.limits = {"size": 1e5}
    assert fewer.learn(world.search, Weights(), 200.0) == ()


def test_the_solver_that_stays_nearest_samples_all_fewer_evaluations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, far = World(monkeypatch, tmp_path, 0.1), {"ddim": 0.4, "heun": 0.5, "unipc": 0.2}
    monkeypatch.setattr(fewer, "distances", lambda *given, **rest: far)
    monkeypatch.setattr(fewer, "split_inputs", lambda model, split: None)
    assert [(c.evaluations, c.solver) for c in fewer.sampled_ways(world.search)] == [
        (16, "unipc"), (8, "unipc"), (4, "unipc"),
    ]  # fmt: skip


def test_what_is_learnt_is_found_by_every_candidate_without_lying_there_twice(tmp_path: Path) -> None:
    search: Any = SimpleNamespace(
        path=tmp_path, template=SimpleNamespace(distill=DistillConfig(evaluations=4, steps=3))
    )
    choices = Choices(evaluations=4, distilled=(20, 10))
    for k in (1, 2):
        step = trying.learnt_directory(search, choices) / "steps" / f"{k}-distill"
        step.mkdir(parents=True)
        (step / "record.json").write_text(f"step {k}")
    here = tmp_path / "candidate"
    trying.take_learnt(search, choices.without(distilled=(20,)), here)
    assert [p.name for p in (here / "steps").iterdir()] == ["1-distill"]
    trying.take_learnt(search, choices, here)
    found = here / "steps" / "2-distill" / "record.json"
    assert found.read_text() == "step 2"
    assert found.stat().st_nlink == 2

"""Halving: who is trained on, with how much time, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from niwaki.compression.config import FinetuneConfig, PruneConfig, QuantizeConfig
from niwaki.compression.search.choices import Choices, Template
from niwaki.core.store import jsonable
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.searching import halving
from niwaki.workflow.searching.affording import afford
from niwaki.workflow.searching.candidate import Candidate, excess
from niwaki.workflow.searching.clock import Clock
from niwaki.workflow.searching.ranking import ranking_text
from niwaki.workflow.searching.refusal import more_time, more_training, refusal
from niwaki.workflow.searching.rehearsal import Loss
from niwaki.workflow.searching.weights import Weights

LIMITS = {"size": 100.0}


class World:
    """A clock that training moves, and losses that fall with the steps: floor + start / steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: float, width: int = 1) -> None:
        self.now, self.judging = 0.0, 0.0
        self.search: Any = SimpleNamespace(
            clock=Clock(seconds, now=lambda: self.now),
            template=Template(PruneConfig(), FinetuneConfig(), QuantizeConfig()),
            limits=LIMITS,
            candidates={},
            run=SimpleNamespace(reporter=Quiet()),
            rehearsal=SimpleNamespace(n=1000),
            width=width,
            begun=lambda candidate: None,
        )
        self.blocks: list[bool] = []
        monkeypatch.setattr(halving, "try_all", self.tried_all)
        monkeypatch.setattr(halving, "drop_what_waits_for_nothing", lambda search, alive: None)
        monkeypatch.setattr(halving.time, "monotonic", lambda: self.now)
        self.aside: list[tuple[int, ...]] = []
        monkeypatch.setattr(halving, "take_snapshot", lambda search, c: self.aside.append(c.trained))

    def tried_all(self, search: Any, some: Sequence[Candidate], blocks: bool = False) -> Iterator[Candidate]:
        """Side by side: it takes as long as the longest one."""
        assert len(some) <= search.width
        self.blocks.append(blocks)
        self.now += 1.0 + 0.01 * max(c.trained[-1] for c in some)  # beside the training, and a step
        return iter([self.tried(search, candidate) for candidate in some])

    def tried(self, search: Any, candidate: Candidate) -> Candidate:
        candidate.each, candidate.judging, candidate.drawn = 0.01, self.judging, 1000
        steps, floor = sum(candidate.trained), candidate.choices.ratios["floor"]
        value = floor + 20.0 / steps
        outcome = "no loss" if value < 0.9 else "loss"
        candidate.losses = {"fidelity": Loss(value, (value - 0.1, value + 0.1), outcome)}
        candidate.history = (*candidate.history, (steps, value))
        search.candidates[candidate.name] = candidate
        return candidate


def candidate(floor: float, size: float = 50.0) -> Candidate:
    return Candidate(Choices({"floor": floor}, origin=f"floor {floor}"), {"size": size})


def test_the_better_third_is_trained_on_and_the_best_one_found(monkeypatch: pytest.MonkeyPatch) -> None:
    world, found = World(monkeypatch, 200.0), []
    pool = [candidate(floor) for floor in (3.0, 0.4, 2.0, 5.0, 0.1, 4.0, 6.0, 7.0, 8.0)]
    halving.halve(world.search, pool, lambda c: None, lambda c: bool(found.append(c)) or True)
    assert [c.choices.ratios["floor"] for c in found] == [0.1]
    steps = {c.choices.ratios["floor"]: sum(c.trained) for c in pool}
    assert steps[0.1] > steps[0.4] >= steps[8.0] > 0
    assert world.now < 200.0


def test_time_is_kept_where_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds in (10.0, 60.0, 600.0):
        world = World(monkeypatch, seconds)
        pool = [candidate(floor) for floor in (3.0, 4.0, 5.0, 6.0, 7.0)]
        halving.halve(world.search, pool, lambda c: None, lambda c: True)
        assert world.now <= seconds + 1.5  # the probe alone may be over it
        assert world.now >= 0.5 * seconds or all(sum(c.trained) > 1000 for c in pool[:1])


def test_a_state_is_set_aside_before_it_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, 60.0)
    one = candidate(0.95)
    halving.halve(world.search, [one], lambda c: None, lambda c: True)
    assert world.aside == [one.trained[:k] for k in range(len(one.trained))]


def test_workers_train_more_in_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = [3.0, 0.95, 2.0, 5.0, 0.99, 4.0, 6.0, 7.0, 8.0]
    steps = {}
    for width in (1, 3):
        world = World(monkeypatch, 200.0, width)
        made = [candidate(floor) for floor in pool]
        halving.halve(world.search, made, lambda c: None, lambda c: True)
        assert world.now <= 201.5
        steps[width] = sum(sum(c.trained) for c in made)
    assert steps[3] > 1.5 * steps[1]


@pytest.mark.parametrize(("judging", "blocks"), [(0.01, False), (50.0, True)])
def test_where_judging_takes_much_of_the_time_samples_come_in_blocks(
    judging: float, blocks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch, 200.0)
    world.judging = judging
    halving.halve(world.search, [candidate(3.0 + k) for k in range(4)], lambda c: None, lambda c: True)
    assert world.blocks[0] is False  # how long it takes is not known yet
    assert set(world.blocks[1:]) >= {blocks}


def test_a_training_that_a_killed_call_has_begun_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    world, seen = World(monkeypatch, 200.0), []
    world.search.begun = lambda c: 777 if c.trained == (halving._PROBE,) else None
    halving.halve(world.search, [candidate(3.0)], lambda c: seen.append(c.trained), lambda c: True)
    assert seen[1] == (halving._PROBE, 777)


def test_training_goes_on_and_is_never_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    world, seen = World(monkeypatch, 300.0), []
    halving.halve(world.search, [candidate(3.0)], lambda c: seen.append(c.trained), lambda c: True)
    assert len(seen) > 2
    for before, after in pairwise(seen):
        assert after[: len(before)] == before


def test_plans_over_the_budget_do_not_take_the_place_of_those_within(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, 200.0)
    pool = [candidate(0.2), candidate(0.0, 500.0), *(candidate(5.0 + k, 400.0) for k in range(7))]
    halving.halve(world.search, pool, lambda c: None, lambda c: True)
    best = max(pool, key=lambda c: sum(c.trained))
    assert best.choices.ratios["floor"] == 0.2


def test_a_refusal_names_what_is_nearest_and_how_much_training_would_do() -> None:
    inside, outside = candidate(0.0), candidate(1.0, 300.0)
    inside.losses = {"diversity": Loss(2.0, (1.5, 2.5), "loss")}
    inside.trained, inside.history = (100,), ((25, 8.0), (100, 2.0))
    outside.losses = {"diversity": Loss(0.0, (-0.1, 0.1), "no loss")}
    search: Any = SimpleNamespace(candidates={"a": inside, "b": outside}, limits=LIMITS)
    found = refusal(search)
    assert found["inside"] == inside.name
    assert found["nearest"] == outside.name
    assert found["steps"] == 200  # loss ∝ 1/steps: 2 margins after 100 are 1 after 200
    assert "2.00 margins of diversity" in found["text"]
    assert "size 300 B" in found["text"]


def test_a_refusal_for_want_of_samples_says_how_much_time_would_buy_them() -> None:
    open_ = candidate(0.0)
    open_.losses = {
        "fidelity": Loss(-0.3, (-0.5, -0.1), "no loss"),
        "diversity": Loss(0.5, (-0.5, 1.5), "inconclusive"),
    }
    open_.drawn = 700
    search: Any = SimpleNamespace(
        candidates={"a": open_},
        limits=LIMITS,
        clock=Clock(900.0),
        afforded=afford(0.1, 3000, 900.0, least=400),
    )
    found = refusal(search)
    assert found["minutes"] == math.ceil(4 * 700 * 0.1 / 0.08 / 60)  # half the width takes four times as many
    assert f"--time {found['minutes']}m" in found["text"]
    open_.losses["diversity"] = Loss(1.2, (0.2, 2.2), "inconclusive")
    assert more_time(search, open_) is None
    open_.losses["diversity"] = Loss(0.5, (-0.5, 1.5), "inconclusive")
    search.afforded = afford(1e-4, 3000, 900.0, least=400)
    assert more_time(search, open_) is None  # samples are cheap: time is not what lacks


def test_how_well_single_costs_rank_trained_plans_is_told() -> None:
    weights = Weights({("prune", "floor", 0.5): (1.0, 2.0)})
    plans = [candidate(ratio) for ratio in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
    for rank, one in enumerate(plans):  # fidelity in the order of the costs, diversity against it
        one.trained = (10,)
        one.losses = {
            "fidelity": Loss(float(rank), (0.0, 1.0), "loss"),
            "diversity": Loss(float(-rank), (0.0, 1.0), "loss"),
        }
    text = ranking_text(plans, weights)
    assert "fidelity 1.00 [1.00]" in text
    assert "diversity -1.00 [-1.00]" in text
    assert ranking_text(plans[:4], weights) == ""


def test_training_that_does_not_help_is_not_advised() -> None:
    one = candidate(0.0)
    one.history = ((100, 2.0), (1000, 2.0))
    assert more_training(one) is None
    one.history = ((100, 2.0), (200, 1.99))
    assert more_training(one) is None


def test_excess_counts_measured_costs_before_predicted_ones() -> None:
    one = candidate(0.0, 200.0)
    assert excess(one, LIMITS) == pytest.approx(0.6931, abs=1e-3)
    one.measured = {"size": 50.0}
    assert excess(one, LIMITS) < 0
    assert excess(one, {"size": 1e9}, room=0.5) < 0


def test_a_candidate_is_read_back_as_it_was_kept() -> None:
    one = candidate(0.5)
    one.losses = {"fidelity": Loss(0.1, (0.0, 0.2), "no loss")}
    one.trained, one.history = (3, 4), ((3, 1.0), (7, 0.1))
    assert Candidate.from_json(jsonable(one.to_json())) == one

"""Candidates in further processes: the same bits as one after another, lost workers, what stays on disk."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from niwaki.api.search import context_of_run
from niwaki.api.train import train
from niwaki.compression.search.budget import Budget
from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import hash_tensors, read_json, read_tensors
from niwaki.recipe import recipe_from
from niwaki.workflow.reporter import Quiet
from niwaki.workflow.searching import attempt as attempt_module
from niwaki.workflow.searching import rehearsal as rehearsal_module
from niwaki.workflow.searching.beginning import begin, within_time
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.clock import Clock
from niwaki.workflow.searching.holding import drop_what_waits_for_nothing, held_bytes
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import carry_out, try_all, try_candidate
from niwaki.workflow.searching.workers import Workers
from niwaki.workflow.stages.train import TrainStage

pytestmark = pytest.mark.slow  # a minute and a half of processor time

RECIPE: dict[str, Any] = {
    "name": "small",
    "data": {"source": "digits"},
    "model": {"name": "vae", "width": 8, "latent": 4},
    "train": {"steps": 600, "batch": 64, "lr": 2e-3},
    "evaluate": {"features": ["random"], "n": 400},
    "export": {"repeats": 3, "memory": False},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(recipe_from(RECIPE), out=tmp_path_factory.mktemp("workers") / "run").path


def begun(trained: Path, out: Path, *overrides: str) -> Search:
    run = context_of_run(trained, overrides, out, Quiet())
    with run.run.hold():
        TrainStage().run(run)
        clock = Clock(600.0)
        run, afforded = within_time(run, clock)
        return begin(run, Budget.parse("size=/3"), clock, None, afforded)


@pytest.fixture(scope="module")
def search(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Search:
    """Candidates are tried in this process."""
    return begun(trained, tmp_path_factory.mktemp("here") / "out")


@pytest.fixture(scope="module")
def shared(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Search]:
    """They are tried in two others."""
    made = begun(trained, tmp_path_factory.mktemp("there") / "out")
    made.rehearsal.n = 400
    made.workers = Workers.begin(made.path, made.run, made.rehearsal, "processes", 2)
    yield made
    made.close_workers()


def pool(search: Search) -> list[Candidate]:
    units = search.units
    made = [Candidate(units.uniform(r, bits)) for r, bits in ((0.5, 8), (0.25, 4), (0.75, 8))]
    for k, one in enumerate(made):
        one.trained = (3 + k,)
    return made


def weights(search: Search, candidate: Candidate) -> str:
    (file,) = search.directory(candidate).glob("steps/*-finetune/model.safetensors")
    return hash_tensors(read_tensors(file))


def test_workers_give_the_bits_of_one_process(search: Search, shared: Search) -> None:
    search.rehearsal.n = 400
    here, there = pool(search), pool(shared)
    for one in here:
        try_candidate(search, one)
    tried = list(try_all(shared, there[:2])) + [try_candidate(shared, there[2])]
    assert [c.losses for c in tried] == [c.losses for c in here]
    assert all(c.losses and not c.reason for c in tried)
    assert [weights(search, c) for c in here] == [weights(shared, c) for c in there]
    for of, candidates in ((search, here), (shared, there)):  # and so they do when trained on
        candidates[0].trained = (*candidates[0].trained, 2)
        try_candidate(of, candidates[0])
    assert here[0].losses == there[0].losses
    assert here[0].history[-1][0] == 5
    kept = Candidate.from_json(read_json(shared.directory(there[0]) / "candidate.json"))
    assert kept == there[0]
    assert shared.begun(there[0]) is None


def test_what_a_worker_cannot_carry_out_is_the_candidates_reason(shared: Search) -> None:
    one = Candidate(shared.units.uniform(0.5, 8).without(ratios={"nowhere": 0.5}))
    try_candidate(shared, one)
    assert "nowhere" in one.reason
    assert one.losses == {}


def test_workers_refuse_another_model_and_data_in_memory(shared: Search) -> None:
    from niwaki.workflow.searching.workers import try_in_worker

    opening = shared.path / "opening.json"
    record = read_json(opening)
    for k, (changed, said) in enumerate(
        [({"model": "x"}, "another one"), ({"data": "x"}, "others than those of the search")]
    ):
        other = opening.with_name(f"other-{k}.json")
        other.write_text(json.dumps({**record, **changed}))
        answer = json.loads(try_in_worker(json.dumps({"opening": str(other), "attempt": None})))
        assert said in answer["refused"]
    memory = {**record["recipe"], "data": {"source": "memory", "name": "x", "fingerprint": "y"}}
    other.write_text(json.dumps({**record, "recipe": memory}))
    os.utime(other, (1, 1))
    answer = json.loads(try_in_worker(json.dumps({"opening": str(other), "attempt": None})))
    assert "in memory" in answer["refused"]


def test_only_what_goes_on_keeps_its_weights(search: Search) -> None:
    tried = pool(search)
    for one in tried:
        one.choices = one.choices.without(retrained=0, evaluations=0, origin="again")
        try_candidate(search, one)
    states = list(search.path.glob("candidates/*/steps/*/model.safetensors"))
    assert {p.parent.name.partition("-")[2] for p in states} <= {"finetune"}  # the last trained state alone
    before = held_bytes(search.path)
    for one in search.candidates.values():  # all lose as much and cost as much, but for the first
        one.predicted = {"size": 10.0, "latency": 1.0}
        one.losses = {axis: dataclasses.replace(loss, value=2.0) for axis, loss in one.losses.items()}
    best = tried[0]
    search.candidates[best.name].predicted = {"size": 5.0, "latency": 0.5}
    drop_what_waits_for_nothing(search, [search.candidates[tried[1].name]])
    left = {p.parts[-4] for p in search.path.glob("candidates/*/steps/*/model.safetensors")}
    assert left == {tried[0].name, tried[1].name}
    assert held_bytes(search.path) < before
    assert all((search.directory(c) / "candidate.json").exists() for c in tried)


def test_blocks_end_as_soon_as_enough_is_known(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    n, rehearsal, model = 1000, search.rehearsal, search.run.model
    same, drawn = rehearsal.losses_of(model, n=n, blocks=True)
    assert drawn < n
    assert {loss.outcome for loss in same.values()} == {"no loss"}
    ruined = carry_out(search, Candidate(search.units.uniform(0.9, 4)), exports=False).model
    lost, drawn = rehearsal.losses_of(ruined, n=n, blocks=True)
    assert drawn < n
    assert "loss" in {loss.outcome for loss in lost.values()}
    assert rehearsal.losses_of(ruined, n=n)[1] == n
    monkeypatch.setattr(rehearsal_module.EarlyTest, "look", lambda self, *values: "go on")
    every, drawn = rehearsal.losses_of(ruined, n=n, blocks=True)  # undecided: the verdict's own test
    whole = rehearsal.losses(ruined, n=n)
    assert drawn == n
    for axis, loss in whole.items():
        assert every[axis].value == pytest.approx(loss.value, abs=1e-3)
        assert every[axis].outcome == loss.outcome


def test_another_seed_has_a_study_of_its_own_and_other_data_are_refused(
    search: Search, trained: Path
) -> None:
    out = search.run.run.path
    other = begun(trained, out, "seed=1")
    assert other.path != search.path
    assert other.candidates == {}
    again = begun(trained, out)
    assert again.path == search.path
    assert set(again.candidates) == set(search.candidates)
    with pytest.raises(CallError, match=r"trained by another recipe, for .*data\.seed"):
        begun(trained, out, "data.seed=5")


def test_a_full_disk_ends_the_search_and_gives_no_candidate_up(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> Any:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise NiwakiError("x could not be written: No space left on device") from error

    one = Candidate(search.units.uniform(0.6, 8))
    one.trained = (4,)
    monkeypatch.setattr(attempt_module, "carried_out", full)
    with pytest.raises(NiwakiError, match="No space left on device; free some space"):
        try_candidate(search, one)
    assert one.reason == ""
    assert one.name not in search.candidates
    fresh = search.known(one.choices)
    assert search.begun(fresh) == 4  # a second call goes on

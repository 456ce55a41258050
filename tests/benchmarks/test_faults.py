"""A slice of the faults: kills before any change of a file, limits of sizes; and what is told of them."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from faulting.children import Ended, start
from faulting.clocks import changing, impossible
from faulting.damaged import damage, newest
from faulting.states import broken, different, state_of
from faulting.verbs import STAGES, VERBS, prepare
from faults import markdown, shares

from niwaki.core.store import (
    atomic_directory,
    copy_file,
    write_json,
    write_tensors,
)
from niwaki.recipe import recipe_from
from niwaki.training.checkpoint import Checkpoint, latest, save_checkpoint
from niwaki.workflow.evidence import write_arrays
from niwaki.workflow.run_directory import RunDirectory
from niwaki_runtime.errors import NiwakiError

RECIPE = recipe_from(
    {"name": "tiny", "data": {"source": "digits"}, "model": {"name": "dcgan"}, "train": {"steps": 5}}
)
Work = Callable[[Path], None]
MOMENTS = 3


def _json(place: Path) -> None:
    write_json(place / "a.json", {"values": list(range(3000))})


def _tensors(place: Path) -> None:
    write_tensors(place / "a.safetensors", {"x": torch.zeros(4000)})


def _arrays(place: Path) -> None:
    write_arrays(place / "a.npz", {"x": np.random.default_rng(0).normal(size=4000)})


def _copy(place: Path) -> None:
    copy_file(place / "source.json", place / "copy.json")


def _directory(place: Path) -> None:
    with atomic_directory(place / "folder") as made:
        write_json(made / "a.json", list(range(3000)))


def _checkpoints(place: Path) -> None:
    for step in (1, 2, 3):
        record = {"step": step, "identity": {}}
        save_checkpoint(place / "checkpoints", Checkpoint({"x": torch.full((4000,), step)}, record), keep=1)


def _run(place: Path) -> None:
    run = RunDirectory.create(RECIPE, place / "run")
    with run.hold(), run.working("train", {"seeds": list(range(3000))}) as state:
        state["result"] = "abc"


WRITERS = (_json, _tensors, _arrays, _copy, _directory, _checkpoints, _run)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def again(place: Path) -> None:
    """As it was before the work: an older file of each name, where there was one."""
    shutil.rmtree(place)
    place.mkdir()
    for name in ("source.json", "a.json"):
        write_json(place / name, {"old": list(range(3000))})
    write_json(place / "folder" / "a.json", [])


def child(work: Work, place: Path, **how: object) -> Ended:
    def call() -> int:
        try:
            work(place)
        except NiwakiError as error:
            os.write(1, str(error).encode())
            return 1
        return 0

    return start(call, place.parent / "log", place=place, **how).wait()  # type: ignore[arg-type]


@pytest.mark.parametrize("work", WRITERS)
def test_killed_before_a_change_of_a_file_it_ends_the_same(work: Work, place: Path) -> None:
    again(place)
    before = state_of(place)
    whole = child(work, place, counting=True)
    after = state_of(place)
    assert (whole.status, broken(place)) == (0, [])
    for k in random.Random(0).sample(range(whole.changes), min(whole.changes, MOMENTS)):
        again(place)
        assert child(work, place, kill_at=k).status is None
        assert broken(place) == [], k
        lost = [said for said in different(state_of(place), before) if said.endswith("is missing")]
        assert lost == [], k
        assert child(work, place).status == 0
        assert different(state_of(place), after) == [], k


@pytest.mark.parametrize("work", WRITERS)
def test_without_space_there_is_a_sentence_and_what_was_there_stays(work: Work, place: Path) -> None:
    again(place)
    before = state_of(place)
    ended = child(work, place, largest=1 << 12)
    assert ended.status == 1, ended.err
    assert "could not be written: File too large" in ended.out
    assert broken(place) == []
    assert different({n: c for n, c in state_of(place).items() if n in before}, before) == []
    assert child(work, place).status == 0


def test_what_is_damaged_missing_or_left_over_is_found(place: Path) -> None:
    again(place)
    before = state_of(place)
    (place / "a.json").write_text('{"old": [0, 1')
    np.savez(place / "b.npz", x=np.zeros(9))
    (place / "b.npz").write_bytes((place / "b.npz").read_bytes()[:60])
    (place / ".c.json.ab.partial").write_text("{")
    (place / "source.json").unlink()
    assert [said.split(" is ")[0] for said in broken(place)] == ["a.json", "b.npz"]
    assert different(state_of(place), before) == [
        "source.json is missing", ".c.json.ab.partial is left over", "b.npz is left over", "a.json differs",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"seconds": 2.0}, True), ({"finished": "later"}, True), ({"steps": [{"seconds": 9}]}, True),
        ({"value": 2}, False), ({"steps": [{"kind": "prune"}]}, False),
    ],
)  # fmt: skip
def test_what_a_clock_says_is_no_difference(change: dict[str, object], same: bool, place: Path) -> None:
    record = {"value": 1, "seconds": 1.0, "finished": "now", "steps": [{"seconds": 1}]}
    write_json(place / "a.json", record)
    before = state_of(place)
    write_json(place / "a.json", record | change)
    assert (state_of(place) == before) is same


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_finds_the_stages_before_it_and_nothing_of_those_behind(name: str, tmp_path: Path) -> None:
    whole, place = tmp_path / "whole", tmp_path / "place"
    place.mkdir()
    (whole / "run" / "stages").mkdir(parents=True)
    (whole / "run" / "model").mkdir()
    for stage in STAGES:
        write_json(whole / "run" / "stages" / f"{stage}.json", {"status": "done"})
    write_json(whole / "run" / "verdict.json", {})
    prepare(place, whole, VERBS[name])
    after = VERBS[name].after
    found = {path.stem for path in (place / "run" / "stages").glob("*.json")}
    assert found == set(after or ())
    assert (place / "run" / "verdict.json").exists() is ("verdict" in (after or ()))


def test_journals_are_the_same_whoever_wrote_them_when_and_how_often(place: Path) -> None:
    def written(value: float, worker: str, *, again: bool = False) -> dict[str, str]:
        lines = [
            {"op_code": 4, "worker_id": worker, "study_id": 0, "datetime_start": worker},
            {"op_code": 5, "worker_id": worker, "trial_id": 0, "param_name": "lr", "value": 0.1},
            {"op_code": 8, "worker_id": worker, "trial_id": 0, "user_attr": {"seconds": len(worker)}},
            {"op_code": 6, "worker_id": worker, "trial_id": 0, "state": 1, "values": [value]},
        ]
        lines += lines[1:2] * again
        (place / "journal.log").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return state_of(place)

    assert written(1.0, "a") == written(1.0, "another", again=True)
    assert written(1.0, "a") != written(2.0, "a")


def test_a_wrong_clock_is_wrong_by_hours_and_spans_that_follow_it_are_found(place: Path) -> None:
    ended = start(
        lambda: os.write(1, str(time.time()).encode()) and 0,
        place.parent / "log", place=place, before=changing(random.Random(0), 1.0),
    ).wait()  # fmt: skip
    assert abs(float(ended.out) - time.time()) > 3000
    write_json(place / "a.json", {"steps": [{"seconds": -7200.0}], "training_seconds": 4.0})
    assert impossible(place) == ["a.json says that seconds is -7200 s"]


def test_a_damaged_checkpoint_is_passed_over(place: Path) -> None:
    for step in (1, 2):
        record = {"step": step, "identity": {}}
        save_checkpoint(place / "checkpoints", Checkpoint({"x": torch.ones(40)}, record), keep=2)
    found = newest(place)
    assert found is not None
    for seed in range(12):
        for path in found.iterdir():
            path.unlink()
        shutil.copytree(found.parent / "step-0000001", found, dirs_exist_ok=True)
        damage(found, random.Random(seed))
        taken, notes = latest(place / "checkpoints")
        assert taken is not None
        assert (taken.path, len(notes)) == (found.parent / "step-0000001", 1), seed


def test_all_kills_are_given_out_and_shown() -> None:
    given = shares(200, list(VERBS))
    assert abs(sum(given.values()) - 200) <= len(VERBS) / 2
    assert min(given.values()) >= 1
    came = {"went on": 30, "ended before": 10}
    row = {"verb": "train", "fault": "kill", "trials": 40, "right": 39, "came": came}
    table = markdown([row])
    assert "| train | SIGKILL | 40 | 39 | 30 went on, 10 ended before |" in table

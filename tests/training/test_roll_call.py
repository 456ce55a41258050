"""Who of several processes is lost: what those that are left say, and that a training goes on from there."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as group
from processes import AT, LOST, together

from niwaki.core.store import read_jsonl, read_tensors
from niwaki.training.checkpoint import list_checkpoints
from niwaki.training.roll_call import PATIENCE, Roll, is_broken

BEAT = 0.01


def rolls(world: int) -> list[Roll]:
    store = group.HashStore()
    return [Roll(store, rank, world, BEAT) for rank in range(world)]


def until_counted(roll: Roll) -> None:
    while not roll._counted(roll.rank):
        time.sleep(BEAT)


def test_the_one_that_no_longer_counts_is_named_by_all_that_do() -> None:
    first, second, third, fourth = rolls(4)
    with third:
        until_counted(third)
    answers: list[str] = []
    with first, second, fourth:  # the second waits for the others, and has not noticed anything yet
        threads = [threading.Thread(target=lambda r=r: answers.append(r.call())) for r in (first, fourth)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        answers.append(second.call())
    assert set(answers) == {"process 2 of 4 (counted from 0) no longer answers"}


def test_several_are_named_together_and_none_where_all_count() -> None:
    first, second, *_ = rolls(4)
    with first, second:
        assert first.call() == "process 2 and 3 of 4 (counted from 0) no longer answer"
    one, other = rolls(2)
    with one, other:
        assert one.call() == "the connection between the 2 processes broke"


def test_what_one_says_of_itself_goes_before_what_others_see() -> None:
    first, second, third = rolls(3)
    with first, second:
        third.tell("process 2 of 3 failed (its disk is full)")
        assert first.call() == second.call() == "process 2 of 3 failed (its disk is full)"


def test_a_verdict_is_remembered_where_the_store_goes() -> None:
    first, second = rolls(2)
    with first, second:
        first.tell("process 0 of 2 failed (no power)")
        end = time.monotonic() + 1000 * BEAT * PATIENCE
        while not second._told and time.monotonic() < end:
            time.sleep(BEAT)
    second.store = Gone()
    assert second.call() == "process 0 of 2 failed (no power)"
    first._told, first.store = "", Gone()
    assert first.call() == "process 0 of 2, where the others meet, no longer answers"


class Gone:
    def __getattr__(self, name: str) -> object:
        raise group.DistNetworkError("Broken pipe")


def test_an_error_of_the_model_is_no_broken_connection() -> None:
    assert is_broken(group.DistBackendError("NCCL error"))
    assert is_broken(RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed"))
    assert not is_broken(RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x3 and 4x3)"))


@pytest.mark.slow
def test_a_rank_killed_in_mid_step_is_named_and_resuming_leaves_no_trace(tmp_path: Path) -> None:
    killed, whole, broken = tmp_path / "killed", tmp_path / "whole", tmp_path / "broken"
    asked = [("lost", killed), ("failed", broken), ("drawing", whole)]
    ends = together(*((scenario, 4, directory) for scenario, directory in asked))
    assert ends == [[1, 1, -9, 1], [1, 1, 1, 1], [0, 0, 0, 0]]
    for rank in (r for r in range(4) if r != LOST):
        said = re.sub(r"\s+", " ", (killed / f"rank-{rank}.txt").read_text())
        assert f"process {LOST} of 4 (counted from 0) no longer answers: " in said
        assert (
            f"ended in step {AT}; resume it from {killed}, whose last checkpoint is that of step 10" in said
        )
        assert "Traceback" not in said
        assert "the disk of this machine is gone" in (broken / f"rank-{rank}.txt").read_text()
    assert [p.name for p in list_checkpoints(killed / "checkpoints")] == ["step-0000005", "step-0000010"]
    assert together(("drawing", 4, killed)) == [[0] * 4]
    a, b = (
        read_tensors(list_checkpoints(d / "checkpoints")[-1] / "state.safetensors") for d in (killed, whole)
    )
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    logs = [[{**line, "seconds": 0} for line in read_jsonl(d / "metrics.jsonl")] for d in (killed, whole)]
    assert logs[0] == logs[1]

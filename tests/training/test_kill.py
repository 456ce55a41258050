"""A training in a process of its own, killed without warning several times, ends with the bits of an
undisturbed one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training_process import STEP, config, split
from training_toys import Adversaries, Regression

from niwaki.core.store import read_jsonl, read_tensors
from niwaki.training import TrainConfig, fit
from niwaki.training.checkpoint import list_checkpoints

PROGRAM = Path(__file__).with_name("training_process.py")
STEPS = 60


def start(directory: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), str(directory), str(STEPS), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def undisturbed(directory: Path) -> None:
    torch.manual_seed(0)
    model = Adversaries()
    fit(model, split(), config(STEPS), seed=1, directory=directory)


def ends_alike(one: Path, two: Path) -> None:
    ends = [list_checkpoints(d / "checkpoints")[-1] for d in (one, two)]
    assert [e.name for e in ends] == [f"step-{STEPS:07d}"] * 2
    a, b = (read_tensors(e / "state.safetensors") for e in ends)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name
    logs = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in read_jsonl(d / "metrics.jsonl")]
        for d in (one, two)
    ]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("kills", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_sigkill_at_any_moment_leaves_no_trace(tmp_path, kills):
    moments = random.Random(kills)
    reached = []
    for _ in range(kills):
        process = start(tmp_path / "killed")
        asked = (reached[-1] if reached else 0) + moments.randint(3, 45 // kills)
        assert process.stdout is not None
        step = 0
        while step < asked:
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            step = int(line)
        time.sleep(moments.uniform(0, 2 * STEP))  # in the midst of a step, a log line or a checkpoint
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        reached.append(step)
    process = start(tmp_path / "killed")
    out, err = process.communicate()
    assert process.returncode == 0, err
    first = int(out.split()[0])
    assert 1 < first <= reached[-1] + 3  # it went on and did not begin again
    undisturbed(tmp_path / "whole")
    ends_alike(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow  # stopped from within: tests/workflow/test_run.py
def test_ctrl_c_saves_and_exits(tmp_path):
    process = start(tmp_path / "stopped")
    assert process.stdout is not None
    while int(process.stdout.readline()) < 13:
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "Traceback" not in err
    last = int(([13, *map(int, out.split())])[-1])
    assert f"training was stopped after step {last} of {STEPS}" in err
    assert list_checkpoints(tmp_path / "stopped" / "checkpoints")[-1].name == f"step-{last:07d}"
    torch.manual_seed(0)
    fit(Adversaries(), split(), config(STEPS), seed=1, directory=tmp_path / "stopped", resume=True)
    undisturbed(tmp_path / "whole")
    ends_alike(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    """Each has half of the batch; DDP averages the gradients: the same path, up to the order of sums."""
    process = start(tmp_path / "two", "2")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    torch.manual_seed(0)
    model = Regression()
    settings = {"batch": 16, "lr": 0.1, "optimizer": "sgd", "precision": "fp32", "log_every": 5}
    fit(model, split(), TrainConfig(steps=STEPS, **settings), seed=1, directory=tmp_path / "one")
    a, b = (
        read_tensors(list_checkpoints(tmp_path / d / "checkpoints")[-1] / "state.safetensors")
        for d in ("one", "two")
    )
    for name in a:
        if not name.startswith("sums/"):
            torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5)
    one, two = (read_jsonl(tmp_path / d / "metrics.jsonl") for d in ("one", "two"))
    assert [line["fit/square"] for line in two] == pytest.approx(
        [line["fit/square"] for line in one], rel=1e-4
    )

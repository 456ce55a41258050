"""Studies that are killed, stopped, and worked at by several processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from toy_study import RATES, RECIPE, losses, search

import niwaki
from niwaki.workflow.tuning.study import Study
from niwaki.workflow.tuning.taking import take

RANGE = ("--range", "train.lr=1e-4..1e-1:log", "--objective", "loss", "--prune", "none")
LONG = {**RECIPE, "train": {**RECIPE["train"], "steps": 150, "checkpoint_every": 5}}


def start(recipe: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    call = [sys.executable, "-m", "niwaki", "tune", str(recipe), *RANGE, "--out", str(out), "--json", *more]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(there: Path, process: subprocess.Popen[str]) -> None:
    while not list(there.parent.glob(there.name)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_trial_that_was_stopped_goes_on_and_ends_with_the_same_bits(
    how: signal.Signals, tmp_path: Path
) -> None:
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(LONG))
    process = start(file, tmp_path / "study", "--trials", "2")
    until(tmp_path / "study/trials/0000/seed-0/checkpoints/step-00000[1-9]*", process)
    process.send_signal(how)
    answer, _ = process.communicate(timeout=120)
    study = Study.open(tmp_path / "study")
    assert [t.state.name for t in study.optuna.trials] == ["RUNNING"]
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert json.loads(answer)["status"] == 130
    began = sorted((tmp_path / "study/trials/0000/seed-0/checkpoints").glob("step-*"))[-1].name
    assert began != "step-0000000"
    record = niwaki.tune(tmp_path / "study", trials=2, progress=False)
    whole = search(tmp_path / "whole", recipe=file, trials=2)
    assert losses(record) == losses(whole)
    assert [row["state"] for row in record.trials] == ["complete", "complete"]
    log = (tmp_path / "study/trials/0000/seed-0/metrics.jsonl").read_text()
    assert log.count('"step": 3,') == 1  # it was not begun anew


@pytest.mark.slow
def test_processes_share_a_study(tmp_path: Path) -> None:
    """Two of one call, and one that is started by hand."""
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump({**LONG, "train": {**LONG["train"], "steps": 60}}))
    first = start(file, tmp_path / "study", "--trials", "7", "--workers", "2")
    until(tmp_path / "study/trials", first)
    second = start(file, tmp_path / "study", "--trials", "7")
    answers = [process.communicate(timeout=300) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], answers
    record = json.loads(answers[0][0])
    assert [row["number"] for row in record["trials"]] == list(range(7))
    assert {row["state"] for row in record["trials"]} == {"complete"}
    rates = [row["settings"]["train.lr"] for row in record["trials"]]
    assert len(set(rates)) == 7  # no process repeats what another one does
    again = niwaki.tune(tmp_path / "study", progress=False)
    assert losses(again)[again.best] == min(losses(again))


def test_a_half_written_line_of_the_journal_is_cut_off(tmp_path: Path) -> None:
    search(tmp_path / "study", trials=1)
    journal = tmp_path / "study/journal.log"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "work')
    record = niwaki.tune(tmp_path / "study", trials=2, progress=False)
    assert [row["state"] for row in record.trials] == ["complete", "complete"]


def test_a_process_killed_while_it_asks_for_settings_leaves_the_trial_as_it_would_have_been(
    tmp_path: Path,
) -> None:
    """Whatever it has written of its asking, line by line: the next process has the same trial."""
    ranges = {**RATES, "train.batch": [8, 16, 32], "model.latent": {"low": 1, "high": 6}}
    search(tmp_path / "study", ranges=ranges, trials=1)
    journal = tmp_path / "study/journal.log"
    before = journal.read_bytes()
    with take(Study.open(tmp_path / "study", trials=2)) as whole:
        assert whole is not None
    lines = journal.read_bytes()[len(before) :].splitlines(keepends=True)
    assert len(lines) >= 2 + len(ranges)
    for count in range(len(lines) + 1):
        journal.write_bytes(before + b"".join(lines[:count]))
        with take(Study.open(tmp_path / "study", trials=2)) as taken:
            assert taken is not None
            assert (taken.number, taken.settings) == (whole.number, whole.settings), count
        with take(Study.open(tmp_path / "study", trials=2)) as again:
            assert again is not None  # it was not told, so it is taken up again, and no third one
            assert again.again
            assert again.number == whole.number


def test_weights_that_a_killed_process_left_of_a_worse_trial_are_cleared_away(tmp_path: Path) -> None:
    record = search(tmp_path / "study", trials=2)
    (worse,) = {0, 1} - {record.best}
    left = tmp_path / f"study/trials/{worse:04d}/seed-0/model"
    left.mkdir()
    niwaki.tune(tmp_path / "study", progress=False)
    assert not left.exists()


def test_a_study_keeps_to_its_time_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = iter((0.0, 48.0, -48.0) * 1000)
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + 3600 * next(hours))
    record = search(tmp_path / "study", trials=2, time=600.0)
    assert [row["state"] for row in record.trials] == ["complete", "complete"]
    assert all(0 <= row["seconds"] < 600 for row in record.trials)


def test_another_place_to_run_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(RECIPE))
    process = start(file, tmp_path / "study", "--on", "ray")
    answer, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "does not run on 'ray'" in json.loads(answer)["error"]

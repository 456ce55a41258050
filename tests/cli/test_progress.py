"""What is shown while work goes on."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from niwaki.workflow import progress
from niwaki.workflow.progress import Drawn, Plain


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_resumed_work_is_rated_by_what_it_does_now(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Plain()
    shown.stage("train")
    shown.update(5000, 6000)
    clock[0] += 10.0
    shown.update(5020, 6000)  # 20 in 10 s; 980 are left
    assert "2.0/s  8:10 left" in capsys.readouterr().err


def test_a_second_loop_is_rated_from_its_own_beginning(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Plain()
    shown.stage("compress")
    for _ in range(2):
        shown.update(0, 100)
        clock[0] += 10.0
        shown.update(50, 100)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(None, 2)[2] for line in lines if "/s" in line] == ["5.0/s  10 s left"] * 2


def test_on_a_terminal_what_was_done_before_is_not_counted_as_speed(
    clock: list[float],
) -> None:
    shown = Drawn(Console(file=io.StringIO(), force_terminal=True))
    shown.stage("train")
    shown.update(5000, 6000)
    assert shown._progress.tasks[0].speed is None  # nothing has been seen to move yet
    assert shown._progress.tasks[0].completed == 5000
    clock[0] += 1.0
    shown.update(3, 100)  # another loop of the same work
    assert shown._progress.tasks[0].completed == 3
    assert shown._progress.tasks[0].fields["name"] == "train"
    shown.close()

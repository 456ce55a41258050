"""Worker processes of this machine: answers, lost workers, their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from niwaki.core.contract import CallError
from niwaki.workflow.executors import WorkerLost, need, results
from niwaki.workflow.executors.local import LocalExecutor

CALLS = """
import os, time, pathlib, torch

def shout(words):
    return f"{words.upper()} {os.getpid()} {torch.get_num_threads()}"

def die_once(words):
    mark = pathlib.Path(words)
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), 9)
    return "alive"

def die(words):
    os._exit(3)

def fail(words):
    raise ValueError("no such width\\nTraceback")

def wait(words):
    pathlib.Path(words).write_text(str(os.getpid()))
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    place = tmp_path_factory.mktemp("calls")
    (place / "toy_calls.py").write_text(CALLS)
    sys.path.insert(0, str(place))
    import toy_calls  # type: ignore[import-not-found]

    yield toy_calls
    sys.path.remove(str(place))


@pytest.fixture(scope="module")
def executor(calls: object) -> Iterator[LocalExecutor]:
    made = LocalExecutor(2)
    yield made
    made.shutdown()


def ask(executor: LocalExecutor, call: object, *words: str) -> list[str | WorkerLost]:
    return results(executor, call, words, lambda done, total: None)  # type: ignore[arg-type]


def test_answers_come_in_order_from_processes_of_one_thread(executor: LocalExecutor, calls: object) -> None:
    found = [str(one).split() for one in ask(executor, calls.shout, *"abcdef")]  # type: ignore[attr-defined]
    assert [word for word, _, _ in found] == list("ABCDEF")
    assert {threads for _, _, threads in found} == {"1"}
    pids = {pid for _, pid, _ in found}
    assert len(pids) <= 2
    assert str(os.getpid()) not in pids


def test_a_worker_that_dies_loses_only_its_call_which_is_made_again(
    executor: LocalExecutor, calls: object, tmp_path: Path
) -> None:
    assert ask(executor, calls.die_once, str(tmp_path / "mark")) == ["alive"]  # type: ignore[attr-defined]
    (lost,) = ask(executor, calls.die, "x")  # type: ignore[attr-defined]
    assert isinstance(lost, WorkerLost)
    assert "lost twice: a worker process ended with status 3" in str(lost)
    (failed,) = ask(executor, calls.fail, "x")  # type: ignore[attr-defined]
    assert "no such width" in str(failed)
    assert str(ask(executor, calls.shout, "on")[0]).startswith("ON")  # type: ignore[attr-defined]


def test_workers_end_when_who_started_them_is_killed(calls: object, tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    script = (
        "import toy_calls, sys\n"
        "from niwaki.workflow.executors.local import LocalExecutor\n"
        f"LocalExecutor(1).submit(toy_calls.wait, {str(mark)!r}).result()\n"
    )
    paths = os.pathsep.join(path for path in sys.path if path)
    parent = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": paths})
    while not mark.exists() or not mark.read_text():
        assert parent.poll() is None
        time.sleep(0.02)
    worker = psutil.Process(int(mark.read_text()))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    gone, _ = psutil.wait_procs([worker], timeout=60)
    assert gone


@pytest.mark.parametrize(
    ("place", "width", "said"), [("processes", 0, "at least 1"), ("slrum", 2, "did you mean 'slurm'")]
)
def test_wrong_places_and_numbers_are_refused(place: str, width: int, said: str) -> None:
    with pytest.raises(CallError, match=said):
        need(place, width)


@pytest.mark.parametrize(("place", "library"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    place: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        CallError, match=rf"needs {library}; install it with `pip install 'niwaki\[{place}\]'`"
    ):
        need(place, 2)

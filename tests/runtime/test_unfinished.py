"""Files while they are written: whole or not there, and nothing stays of a killed process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from niwaki_runtime.errors import NiwakiError
from niwaki_runtime.unfinished import (
    clear_below,
    is_unfinished,
    partial_directory,
    partial_file,
    scratch_directory,
)

WRITER = """
import sys, time
from pathlib import Path
from niwaki_runtime.unfinished import partial_directory, partial_file, scratch_directory
kind, place = sys.argv[1], Path(sys.argv[2])
what = {"file": partial_file, "directory": lambda p: partial_directory(p.parent, f".{p.name}."),
        "scratch": lambda p: scratch_directory()}[kind]
with what(place / "it") as made:
    if kind == "file":
        made.write(b"half")
        made.flush()
    else:
        (made / "inside").write_text("half")
    print("at work", flush=True)
    time.sleep(600)
"""
KINDS = ("file", "directory", "scratch")


def write(kind: str, place: Path) -> None:
    if kind == "file":
        with partial_file(place / "it") as file:
            file.write(b"whole")
    elif kind == "directory":
        with partial_directory(place, ".it."):
            pass
    else:
        with scratch_directory():
            pass


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_writer_clears_away_what_a_killed_one_left_and_nothing_else(kind: str, place: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, kind, str(place)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "at work\n"
        (left,) = names(place)
        assert is_unfinished(Path(left))
        write(kind, place)
        clear_below(place)
        assert left in names(place), "what another process is writing is left alone"
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    write(kind, place)
    assert names(place) == (["it"] if kind == "file" else [])


def test_a_file_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "it"
    with partial_file(path) as file:
        file.write(b"first")
        assert not path.exists()
    with pytest.raises(TypeError), partial_file(path) as file:
        file.write("no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["it"]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        (".it.ab12.partial", True), ("niwaki-ab12.partial", True), ("it.partial", False),
        (".partial-notes", False), ("niwaki-run", False), (".it.ab12", False),
    ],
)  # fmt: skip
def test_only_what_is_called_so_is_cleared_away(name: str, is_one: bool, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / name).write_text("x")
    clear_below(tmp_path)
    assert (tmp_path / "deep" / name).exists() is not is_one


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    (tmp_path / ".it.ab.partial").symlink_to(tmp_path / "mine")
    clear_below(tmp_path)
    assert (tmp_path / "mine").read_text() == "x"


def _no_such_folder(tmp_path: Path) -> str:
    return str(tmp_path / "nowhere")


def _a_file(tmp_path: Path) -> str:
    (tmp_path / "file").write_text("")
    return str(tmp_path / "file")


@pytest.mark.parametrize("where", [_no_such_folder, _a_file])
def test_without_a_place_for_temporary_files_there_is_a_sentence(
    where: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", where(tmp_path))
    with pytest.raises(NiwakiError, match="let TMPDIR name a folder with space"), scratch_directory():
        pass


def test_handles_are_given_back(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        write("file", tmp_path)
        write("directory", tmp_path)
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    assert after == before

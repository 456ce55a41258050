from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from niwaki.core.contract import NiwakiError
from niwaki.workflow.lock import locked

HOLDER = """
import sys, time
from pathlib import Path
from niwaki.workflow.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_process_is_refused_and_a_killed_one_leaves_nothing_behind(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(NiwakiError) as error, locked(tmp_path):
            pass
        assert f"{tmp_path} is in use by another niwaki (process {holder.pid})" in str(error.value)
    finally:
        holder.kill()
        holder.wait()
    with locked(tmp_path):
        assert (tmp_path / ".lock").exists()


def test_a_lock_file_that_nobody_holds_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("1\n")  # process 1 is always alive, and never held this
    with locked(tmp_path), pytest.raises(NiwakiError, match="in use"), locked(tmp_path):
        pass


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(NiwakiError, match="cannot be written to"), locked(tmp_path / "missing"):
        pass

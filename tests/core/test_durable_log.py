"""A log that only grows: synced before it returns, whole after a kill."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from niwaki.core.durable_log import DurableLog
from niwaki.core.store import read_jsonl
from niwaki_runtime.errors import NiwakiError


def test_lines_of_many_threads_are_whole_and_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    log = DurableLog(tmp_path / "deep" / "log.jsonl")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: log.add({"i": i, "text": "ä\n" * 50}), range(100)))
    log.add({"i": 100}, sync=False)
    assert len(synced) == 100
    assert sorted(line["i"] for line in read_jsonl(log.path)) == list(range(101))
    log.close()


def test_a_line_that_was_cut_short_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"i": 0}\n{"i": 1, "te')
    log = DurableLog(path)
    log.add({"i": 2})
    log.close()
    assert [line["i"] for line in read_jsonl(path)] == [0, 2]


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NiwakiError, match="cannot be written"):
        DurableLog(tmp_path / "file" / "log.jsonl")

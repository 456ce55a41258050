"""Rows of a course as they come."""

from __future__ import annotations

from pathlib import Path

from niwaki.workflow.runs.following import METRICS, rows_since


def test_rows_come_once_each_and_only_whole(tmp_path: Path) -> None:
    assert rows_since(tmp_path) == ([], 0, False)
    file = tmp_path / METRICS
    file.write_text('{"step": 1}\n{"step": 2}\n{"st')
    rows, at, anew = rows_since(tmp_path)
    assert ([row["step"] for row in rows], at, anew) == ([1, 2], 24, False)
    assert rows_since(tmp_path, at) == ([], 24, False)
    with file.open("a") as more:
        more.write('ep": 3}\nbroken\n[4]\n{"step": 5}\n')
    rows, at, _ = rows_since(tmp_path, at)
    assert [row["step"] for row in rows] == [3, 5]
    assert at == file.stat().st_size


def test_a_course_that_is_written_again_begins_anew(tmp_path: Path) -> None:
    file = tmp_path / METRICS
    file.write_text('{"step": 1}\n{"step": 2}\n')
    _, at, _ = rows_since(tmp_path)
    file.write_text('{"step": 9}\n')
    assert rows_since(tmp_path, at) == ([{"step": 9}], 12, True)

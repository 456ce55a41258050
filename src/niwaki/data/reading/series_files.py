"""Files of series: a table or a folder of them, with one series or several, and what is static of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from niwaki.core.contract import CallError
from niwaki.core.paths import expanded
from niwaki.data.audit import LEFT_OUT, Finding, shortened
from niwaki.data.reading.recordings import Recording, recordings_of
from niwaki.data.reading.tables import ENDINGS, read_table
from niwaki.data.reading.walking import walk

__all__ = ["left_out", "read_files", "static_numbers"]

_KINDS = 64  # values that a static column of texts may have


def read_files(
    path: str, time: str | None, group: str | None, static: Sequence[str], wanted: Sequence[str]
) -> tuple[list[Recording], list[Finding]]:
    """The series in a file, or in all of a folder, and what was left out; the rest as `recordings_of`.

    Raises CallError for a path that is none, and for files of other columns than the first.
    """
    root, findings = expanded(path), []
    if not root.exists():
        raise CallError(f"data.path '{path}' does not exist")
    files = [root]
    if root.is_dir():
        try:
            seen = walk(root, tuple(ENDINGS))
        except OSError as error:
            raise CallError(f"data.path '{path}' cannot be opened: {error.strerror or error}") from None
        files, findings = [root / name for name in seen.files], seen.findings("tables")
    if not files:
        why = "; ".join(f.text for f in findings)
        raise CallError(f"data.path '{path}' holds no .csv or .parquet files" + (f": {why}" if why else ""))
    names = [p.relative_to(root).as_posix() if root.is_dir() else p.name for p in files]
    tables = [read_table(p, name) for p, name in zip(files, names, strict=True)]
    other = [t.name for t in tables if t.titles != tables[0].titles]
    if other:
        raise CallError(
            f"{', '.join(shortened(other))} have other columns than '{tables[0].name}'; "
            "files of one folder must have the same"
        )
    found = [
        recording
        for table in tables
        for recording in recordings_of(table, time=time, group=group, static=static, wanted=wanted)
    ]
    return found, findings + left_out(found[0])


def left_out(recording: Recording) -> list[Finding]:
    """What is said of columns that were not read. One without a name, as tables of pandas begin with, is
    none."""
    left = [c for c in recording.left if c]
    if left:
        text = f"{len(left)} columns are neither forecast nor known, and were not read: {', '.join(left)}"
        return [Finding("note", LEFT_OUT, text, shortened(left))]
    if not recording.left:
        return []
    text = f"a column of '{recording.name}' has no name and was not read; name it, or drop it"
    return [Finding("warning", LEFT_OUT, text)]


def static_numbers(
    recordings: Sequence[Recording], titles: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """What is static of every recording `(recordings, S)`, and what the S numbers are called: columns of
    numbers as they are; of texts one number for each that occurs, 1 where it stands."""
    parts, names = [np.zeros((len(recordings), 0), np.float32)], list[str]()
    for title in titles:
        if title not in recordings[0].static:
            raise CallError(f"data.static: '{recordings[0].name}' has no column '{title}'")
        cells = [recording.static[title] for recording in recordings]
        kinds = sorted(set(cells))
        try:
            values = np.array(cells, np.float64)[:, None]
            names.append(title)
        except ValueError:
            if len(kinds) > _KINDS:
                raise CallError(
                    f"the column '{title}' has {len(kinds)} different texts; data.static takes at most "
                    f"{_KINDS}"
                ) from None
            values = np.array([[cell == kind for kind in kinds] for cell in cells], np.float32)
            names += [f"{title} {kind}" for kind in kinds]
        if not (np.abs(values) <= np.finfo(np.float32).max).all():
            raise CallError(f"the column '{title}' (data.static) has values that are missing or too large")
        parts.append(values.astype(np.float32))
    return np.concatenate(parts, 1), tuple(names)

"""Tables of series: CSV files, and the two recordings that come with matplotlib."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from niwaki.core.contract import CallError, nearest
from niwaki.core.store import hash_bytes

__all__ = ["ON_BOARD", "Recording", "read_csv", "read_on_board"]

_UNEVEN = 0.01  # share of a step by which a time may be off
_MISSING = ("", "nan", "na", "n/a", "null", "none", "-")


@dataclass(frozen=True)
class Recording:
    """One series of several channels.

    name:     of the file
    channels: names of the columns
    values:   `(steps, channels)` float64, NaN where nothing was measured
    times:    seconds of every step `(steps,)`, or None
    content:  hash of what it was read from
    """

    name: str
    channels: tuple[str, ...]
    values: np.ndarray
    times: np.ndarray | None
    content: str

    @property
    def step(self) -> float | None:
        """Seconds between two steps; None without times."""
        if self.times is None or len(self.times) < 2:
            return None
        return float(np.median(np.diff(self.times)))

    def column(self, name: str) -> np.ndarray:
        """Raises CallError with the nearest name where there is none."""
        if name not in self.channels:
            raise CallError(f"'{self.name}' has no column '{name}'; {nearest(name, self.channels)}")
        return self.values[:, self.channels.index(name)]

    def stretches(self) -> list[tuple[int, int]]:
        """First and last step + 1 of what was measured without a gap in time."""
        if self.times is None or self.step is None:
            return [(0, len(self.values))]
        gaps = np.flatnonzero(np.abs(np.diff(self.times) / self.step - 1) > _UNEVEN) + 1
        edges = [0, *gaps.tolist(), len(self.values)]
        return [(a, b) for a, b in itertools.pairwise(edges) if b > a]


def read_csv(path: Path, name: str, time: str | None) -> Recording:
    """A CSV file with one line of names, numbers below; empty cells are missing values.

    time: the column of times, as seconds or as dates (ISO 8601); None takes `time`, `timestamp`, `date` or
          `datetime` where there is one
    Raises CallError for what is no such file, a cell that is no number, and times that do not rise.
    """
    if path.exists() and not path.is_file():
        raise CallError(f"'{name}' is neither a file nor a folder")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CallError(f"'{name}' cannot be opened: {error.strerror or error}") from None
    try:
        text = raw.decode("utf-8-sig")
        dialect = csv.Sniffer().sniff(text[:4096].split("\n", 1)[0] + "\n", delimiters=",;\t")
    except UnicodeDecodeError:
        raise CallError(f"'{name}' is not UTF-8 text; save it as UTF-8") from None
    except csv.Error:  # a single column has no delimiter
        dialect = csv.excel
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        rows = list(csv.reader(lines, dialect))
    except csv.Error as error:
        raise CallError(f"'{name}' is no table of comma-separated values: {error}") from None
    if len(rows) < 2:
        raise CallError(f"'{name}' holds no line of names with numbers below")
    head = [cell.strip() for cell in rows[0]]
    twice = sorted({title for title in head if head.count(title) > 1})
    if twice:
        raise CallError(f"'{name}' has several columns called '{twice[0]}'; give each a name of its own")
    clock = _clock(name, head, time)
    wrong = next((i for i, row in enumerate(rows) if len(row) != len(head)), None)
    if wrong is not None:
        raise CallError(f"'{name}': row {wrong + 1} has {len(rows[wrong])} cells, the first one {len(head)}")
    times = None
    if clock is not None:
        at = head.index(clock)
        times = np.array([_seconds(row[at], name, i + 2) for i, row in enumerate(rows[1:])])
        if len(times) > 1 and not (np.diff(times) > 0).all():
            raise CallError(
                f"the times of '{name}' must rise from row to row; sort them, and drop repetitions"
            )
    kept = [i for i, title in enumerate(head) if title != clock]
    values = np.array([[_number(row[i], name, j + 2) for i in kept] for j, row in enumerate(rows[1:])])
    return Recording(name, tuple(head[i] for i in kept), values, times, hash_bytes(raw))


def _clock(name: str, head: Sequence[str], time: str | None) -> str | None:
    if time is not None:
        if time not in head:
            raise CallError(f"'{name}' has no column '{time}' (data.time); {nearest(time, head)}")
        return time
    usual = ("time", "timestamp", "date", "datetime")
    return next((title for title in head if title.lower() in usual), None)


def _number(cell: str, name: str, row: int) -> float:
    if cell.strip().lower() in _MISSING:
        return math.nan
    try:
        if "_" in cell:  # which Python reads over
            raise ValueError
        return float(cell)
    except ValueError:
        raise CallError(f"'{name}', row {row}: '{cell}' is no number") from None


def _seconds(cell: str, name: str, row: int) -> float:
    try:
        return float(cell)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError:
        raise CallError(f"'{name}', row {row}: '{cell}' is neither seconds nor a date (ISO 8601)") from None
    return (moment - datetime(1970, 1, 1, tzinfo=moment.tzinfo)).total_seconds()


def _membrane() -> Recording:
    """Potential of a nerve cell's membrane in mV, 6 s at 2 kHz: at rest, then it fires while a current
    flows, then rest again."""
    data, content = _sample("membrane.dat", np.float32)
    return Recording("membrane", ("potential",), data[:, None] * 100, np.arange(len(data)) * 0.0005, content)


def _eeg() -> Recording:
    """Four channels of an electroencephalogram, 10 s at 80 Hz."""
    data, content = _sample("eeg.dat", np.float64)
    values = data.reshape(800, 4)
    return Recording("eeg", ("PG3", "PG5", "PG7", "PG9"), values, np.arange(len(values)) / 80.0, content)


def _sample(file: str, dtype: type) -> tuple[np.ndarray, str]:
    from matplotlib import cbook

    raw = Path(str(cbook.get_sample_data(file, asfileobj=False))).read_bytes()
    return np.frombuffer(raw, dtype).astype(np.float64), hash_bytes(raw)


ON_BOARD: dict[str, Callable[[], Recording]] = {"membrane": _membrane, "eeg": _eeg}
"""Recordings in matplotlib's sample data, by name."""


def read_on_board(name: str) -> Recording:
    """Raises CallError with the nearest name where there is none, or matplotlib came without its data."""
    if name not in ON_BOARD:
        raise CallError(f"there is no series '{name}' on board; {nearest(name, ON_BOARD)}")
    try:
        return ON_BOARD[name]()
    except OSError as error:
        raise CallError(f"this matplotlib came without its sample data: {error}") from None

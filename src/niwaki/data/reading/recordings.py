"""Series as they were recorded: several channels over time, and where in it something is missing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from niwaki.core.contract import CallError, nearest
from niwaki.data.reading.calendars import MONTH, months_of, next_months
from niwaki.data.reading.tables import Table

__all__ = ["Recording", "recordings_of"]

_UNEVEN = 0.01  # share of a step by which a time may be off
_OFTEN = 0.1  # share of uneven steps from which times have no step at all
_MOST = 10  # times as many rows as there are, that gaps may be filled with
_USUAL = ("time", "timestamp", "date", "datetime")


@dataclass(frozen=True)
class Recording:
    """One series of several channels.

    name:     of the file, and of the group in it
    channels: names of the columns
    values:   `(steps, channels)` float64, NaN where nothing was measured
    times:    seconds of every step `(steps,)`, or None
    content:  hash of what it was read from
    dated:    whether times are dates, seconds since 1970
    static:   what is the same at every step, by column
    left:     columns that were not read
    """

    name: str
    channels: tuple[str, ...]
    values: np.ndarray
    times: np.ndarray | None
    content: str
    dated: bool = False
    static: dict[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    @property
    def step(self) -> float | None:
        """Seconds between two steps, of months on average; None without times."""
        if self.times is None or len(self.times) < 2:
            return None
        months = months_of(self.times) if self.dated else None
        return float(np.median(np.diff(self.times))) if months is None else months[1] * MONTH

    def column(self, name: str) -> np.ndarray:
        """Raises CallError with the nearest name where there is none."""
        if name not in self.channels:
            raise CallError(f"'{self.name}' has no column '{name}'; {nearest(name, self.channels)}")
        return self.values[:, self.channels.index(name)]

    def places(self) -> np.ndarray:
        """Steps from the first to every one `(steps,)`: whole numbers that rise by 1 where no row is missing;
        of dates that follow the months, in months."""
        if self.times is None or self.step is None:
            return np.arange(len(self.values), dtype=np.float64)
        months = months_of(self.times) if self.dated else None
        if months is not None:
            return (months[0] - months[0][0]) / months[1]
        jumps = np.diff(self.times) / self.step
        whole = np.round(jumps)
        return np.concatenate([[0.0], np.cumsum(np.where(np.abs(jumps - whole) <= _UNEVEN, whole, jumps))])

    def stretches(self) -> list[tuple[int, int]]:
        """First and last step + 1 of what was measured without a gap in time.

        Raises CallError where a tenth of the steps or more are uneven, so that there is no step.
        """
        jumps = np.diff(self.places())
        gaps = np.flatnonzero(np.abs(jumps - 1) > _UNEVEN) + 1
        uneven = np.abs(jumps - np.round(jumps)) > _UNEVEN
        if len(jumps) > 2 and uneven.mean() >= _OFTEN:
            assert self.times is not None
            gone = np.diff(self.times)
            raise CallError(
                f"the steps of '{self.name}' are uneven, {gone.min():.4g} to {gone.max():.4g} s; give "
                f"data.resample (for example {float(f'{np.median(gone):.2g}'):g}), a number of seconds that "
                "are averaged into one step"
            )
        edges = [0, *gaps.tolist(), len(self.values)]
        return [(a, b) for a, b in itertools.pairwise(edges) if b > a]

    def filled(self) -> Recording:
        """With a row of missing values for every one that is missing on the way.

        Raises CallError where that would be ten times as many as there are.
        """
        self.stretches()  # refuses uneven steps
        places = self.places()
        if self.times is None or (np.abs(places - np.round(places)) > _UNEVEN).any():
            return self  # a pause that ends between two steps: windows do not reach across it
        at = np.round(places).astype(np.int64)
        if at[-1] + 1 == len(at):
            return self
        if at[-1] + 1 > _MOST * len(at):
            raise CallError(
                f"'{self.name}' has {len(at)} rows over {at[-1] + 1} steps of {self.step:g} s: too few to "
                "mark the others as missing; give data.resample"
            )
        values = np.full((at[-1] + 1, len(self.channels)), math.nan)
        values[at] = self.values
        times = np.interp(np.arange(at[-1] + 1), at, self.times)
        if self.dated and (months := months_of(self.times)) is not None:
            times = np.concatenate([self.times[:1], next_months(self.times[0], months[1], at[-1])])
        return replace(self, values=values, times=times)

    def resampled(self, seconds: float) -> Recording:
        """Values averaged over bins of so many seconds from the first time on; empty ones are missing."""
        if self.times is None:
            raise CallError("data.resample needs times: name their column with data.time, or give data.rate")
        # A time on the edge of two bins must not fall before it by its rounding.
        at = np.floor((self.times - self.times[0]) / seconds + 1e-9).astype(np.int64)
        if at[-1] + 1 > _MOST * len(at):
            raise CallError(
                f"data.resample of {seconds:g} s makes {at[-1] + 1} steps of the {len(at)} in '{self.name}'; "
                "give a longer one"
            )
        known = np.isfinite(self.values)
        total, count = np.zeros((2, at[-1] + 1, len(self.channels)))
        np.add.at(total, at, np.where(known, self.values, 0.0))
        np.add.at(count, at, known)
        values = np.where(count > 0, total / np.maximum(count, 1), math.nan)
        return replace(self, values=values, times=self.times[0] + seconds * np.arange(at[-1] + 1))


def recordings_of(
    table: Table,
    *,
    time: str | None = None,
    group: str | None = None,
    static: Sequence[str] = (),
    wanted: Sequence[str] = (),
) -> list[Recording]:
    """The series in a table: one, or one for each value of the column `group`, in the order of their first
    rows.

    time:   the column of times; None takes `time`, `timestamp`, `date` or `datetime` where there is one
    static: columns that are the same for all rows of a series
    wanted: columns that are read as numbers; none: all that are neither time, group nor static, and have a
            name (of which tables of pandas begin with one that has none)
    Raises CallError for unknown columns, cells that are no numbers, times that do not rise, and what is
    called static and changes.
    """
    clock = time or next((t for t in table.titles if t.lower() in _USUAL), None)
    times, dated = (None, False) if clock is None else table.seconds(clock)
    of = np.zeros(len(table), object) if group is None else table.words(group, "data.group")
    fixed = {title: table.words(title, "data.static") for title in static}
    others = tuple(t for t in table.titles if t in wanted or t not in (clock, group, *static))
    kept = tuple(t for t in others if (t in wanted if wanted else t))
    left = tuple(t for t in others if t not in kept)
    for title in wanted:
        table.column(title)
    values = np.stack([table.numbers(t) for t in kept], 1) if kept else np.zeros((len(table), 0))
    found = []
    for name in dict.fromkeys(of):
        rows = np.flatnonzero(of == name)
        title = table.name if group is None else f"{table.name} {name}"
        now = None if times is None else times[rows]
        if now is not None and len(now) > 1 and not (np.diff(now) > 0).all():
            raise CallError(
                f"the times of '{title}' must rise from row to row; sort them, and drop repetitions"
                + ("" if group is not None else ", or name the column of series with data.group")
            )
        found.append(
            Recording(title, kept, values[rows], now, table.content, dated, _fixed(fixed, rows, title), left)
        )
    return found


def _fixed(columns: dict[str, np.ndarray], rows: np.ndarray, name: str) -> dict[str, str]:
    for title, cells in columns.items():
        if len(set(cells[rows])) > 1:
            raise CallError(
                f"the column '{title}' of '{name}' changes over time, so that it is not static; name it in "
                "data.known instead"
            )
    return {title: str(cells[rows[0]]) for title, cells in columns.items()}

"""Series in windows: a past, and the future that is to be forecast. Splits are blocks of time.

Within every file the first share of the time is the training block, then comes validation, then test, and a
window lies wholly within one block: nothing that a model is tested on was seen in training, not even as the
past of a window.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import Field

from niwaki.core.contract import CallError, DataSpec, Real, ValueSpec
from niwaki.core.paths import expanded
from niwaki.data.audit import LEFT_OUT, Finding, shortened
from niwaki.data.columns import Column
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.reading.recordings import Recording, read_csv, read_on_board
from niwaki.data.reading.walking import walk
from niwaki.data.splitting import SPLITS

__all__ = ["SeriesOptions", "series"]


class SeriesOptions(Options):
    """Settings of `series`.

    path:     a CSV file with a line of names, or a folder of them with the same columns; without one, `name`
    name:     a recording on board: `membrane` (a nerve cell, 6 s at 2 kHz) or `eeg` (4 channels, 10 s, 80 Hz)
    time:     the column of times: seconds or dates; default: one called time, timestamp, date or datetime
    rate:     steps per second, where there is no column of times
    channels: columns that are forecast; default: all that are not otherwise named
    known:    columns that are known beforehand (prices, holidays): covariates of past and future
    span:     first and last second of the time that is used; default: all of it
    periods:  seconds of cycles (86400 for a day) whose phase is given as covariates, a sine and a cosine each
    past:     steps before the forecast
    future:   steps that are forecast
    stride:   steps between two windows; default: all windows in training, and elsewhere
    every:    steps that are averaged into one
    """

    path: str | None = None
    name: str = "membrane"
    time: str | None = None
    rate: float | None = Field(default=None, gt=0)
    channels: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    span: tuple[float, float] | None = None
    periods: tuple[float, ...] = ()
    past: int = Field(default=64, ge=2)
    future: int = Field(default=16, ge=1)
    stride: int = Field(default=1, ge=1)
    every: int = Field(default=1, ge=1)


@register("series", SeriesOptions)
def series(config: DataConfig, options: SeriesOptions, progress: Progress | None) -> Pool:
    """Futures `(C, future)` as samples, columns `past` `(C, past)` and, where there are any, `covariates`
    `(K, past + future)`.

    Raises CallError for a missing or broken file, unknown columns, files with other columns than the first,
    and blocks of time that are too short for a window.
    """
    read, findings = _read(options)
    recordings = [_within(recording, options) for recording in read]
    first = recordings[0]
    channels, left = _channels(first, options)
    findings += left
    if not channels:
        raise CallError(f"'{first.name}' has no column to forecast")
    if len(set(channels) & set(options.known)):
        raise CallError("a column cannot be forecast (data.channels) and known beforehand (data.known)")
    windows: list[np.ndarray] = []
    numbers: list[int] = []
    names: list[str] = []
    missing = 0
    for k, recording in enumerate(recordings):
        table, stretches = _table(recording, channels, options), recording.stretches()
        if len(stretches) > 1:
            count = len(stretches) - 1
            text = f"the times of '{recording.name}' have {count} gaps; no window reaches across one"
            findings.append(Finding("warning", "gaps", text))
        for number, (begin, end) in enumerate(_blocks(len(table), config.fractions)):
            for a, b in stretches:
                for start, window in _windows(table, max(a, begin), min(b, end), options, trains=number == 0):
                    if not np.isfinite(window).all():
                        missing += 1
                        continue
                    windows.append(window)
                    numbers.append(number)
                    names.append(f"{recording.name} from step {start}")
        if progress:
            progress(k + 1, len(recordings))
    if missing:
        text = f"{missing} windows hold missing values or infinite ones and were set aside"
        findings.append(Finding("warning", "not finite", text))
    assignment = np.array(numbers, dtype=np.int64)
    _enough(assignment, options)
    x = torch.from_numpy(np.stack(windows).transpose(0, 2, 1).astype(np.float32))
    step = first.step
    rate = float(f"{1 / (step * options.every):.9g}") if step else None  # without the rounding of times
    return Pool(
        first.name if len(recordings) == 1 else "series",
        **_columns(x, channels, rate, options),
        assignment=assignment,
        item_names=names,
        findings=findings,
    )


def _read(options: SeriesOptions) -> tuple[list[Recording], list[Finding]]:
    """The recordings, and what was left out."""
    if options.path is None:
        return [read_on_board(options.name)], []
    root, findings = expanded(options.path), []
    if not root.exists():
        raise CallError(f"data.path '{options.path}' does not exist")
    files = [root]
    if root.is_dir():
        try:
            seen = walk(root, ("csv",))
        except OSError as error:
            raise CallError(
                f"data.path '{options.path}' cannot be opened: {error.strerror or error}"
            ) from None
        files, findings = [root / name for name in seen.files], seen.findings("tables")
    if not files:
        why = "; ".join(f.text for f in findings)
        raise CallError(f"data.path '{options.path}' holds no .csv files" + (f": {why}" if why else ""))
    found = [
        read_csv(p, p.relative_to(root).as_posix() if root.is_dir() else p.name, options.time) for p in files
    ]
    other = [r.name for r in found if r.channels != found[0].channels]
    if other:
        raise CallError(
            f"{', '.join(shortened(other))} have other columns than '{found[0].name}'; "
            "files of one folder must have the same"
        )
    return found, findings


def _channels(recording: Recording, options: SeriesOptions) -> tuple[tuple[str, ...], list[Finding]]:
    """The columns that are forecast. One without a name, as tables of pandas begin with, is none."""
    if options.channels:
        left = [c for c in recording.channels if c not in (*options.channels, *options.known)]
        text = f"{len(left)} columns are neither forecast nor known, and were not read: {', '.join(left)}"
        return options.channels, [Finding("note", LEFT_OUT, text, shortened(left))] if left else []
    channels = tuple(c for c in recording.channels if c and c not in options.known)
    if "" not in recording.channels:
        return channels, []
    text = f"a column of '{recording.name}' has no name and was not read; name it, or drop it"
    return channels, [Finding("warning", LEFT_OUT, text)]


def _within(recording: Recording, options: SeriesOptions) -> Recording:
    """The part of a recording in `span`, with times from its rate where it has none of its own."""
    if recording.times is None and options.rate is not None:
        recording = replace(recording, times=np.arange(len(recording.values)) / options.rate)
    if options.span is None:
        return recording
    if recording.times is None:
        raise CallError("data.span needs times: name their column with data.time, or give data.rate")
    begin, end = options.span
    inside = (recording.times >= begin) & (recording.times < end)
    if not inside.any():
        raise CallError(
            f"data.span {begin:g} … {end:g} s lies outside '{recording.name}', which lasts from "
            f"{recording.times[0]:g} to {recording.times[-1]:g} s"
        )
    return replace(recording, values=recording.values[inside], times=recording.times[inside])


def _table(recording: Recording, channels: tuple[str, ...], options: SeriesOptions) -> np.ndarray:
    """What windows are cut from: `(steps, channels + covariates)`."""
    columns = [recording.column(name) for name in (*channels, *options.known)]
    if options.periods and recording.times is None:
        raise CallError("data.periods needs times: name their column with data.time, or give data.rate")
    for period in options.periods:
        angle = 2 * math.pi * recording.times / period  # type: ignore[operator]
        columns += [np.sin(angle), np.cos(angle)]
    return np.stack(columns, 1)


def _windows(
    table: np.ndarray, begin: int, end: int, options: SeriesOptions, *, trains: bool
) -> Iterator[tuple[int, np.ndarray]]:
    """First step and values `(past + future, columns)` of the windows within steps begin … end−1.

    Where `every` steps are averaged into one, training windows begin at each of them: the same time in other
    averages.
    """
    length, every = options.past + options.future, options.every
    for offset in range(every if trains else 1):
        rows = table[begin + offset : end]
        rows = rows[: len(rows) // every * every]
        rows = rows.reshape(-1, every, table.shape[1]).mean(1)
        for start in range(0, len(rows) - length + 1, options.stride):
            yield begin + offset + start * every, rows[start : start + length]


def _blocks(steps: int, fractions: tuple[float, float, float]) -> list[tuple[int, int]]:
    """First and last step + 1 of the blocks of train, validation and test, in this order of time."""
    edges = [0, *(round(steps * share) for share in np.cumsum(fractions)[:-1]), steps]
    return list(itertools.pairwise(edges))


def _enough(assignment: np.ndarray, options: SeriesOptions) -> None:
    counts = np.bincount(assignment, minlength=len(SPLITS))
    for k, name in enumerate(SPLITS):
        if counts[k] == 0:
            raise CallError(
                f"the {name} block of time is too short for a window of {options.past} + {options.future} "
                "steps; shorten data.past, data.future or data.every, or give more data"
            )


def _columns(
    windows: torch.Tensor, channels: tuple[str, ...], rate: float | None, options: SeriesOptions
) -> dict[str, Any]:
    """Windows `(n, channels + covariates, past + future)` as the columns of a pool."""
    c, past = len(channels), options.past
    own, rest = windows[:, :c], windows[:, c:].contiguous()

    def spec(values: torch.Tensor, names: tuple[str, ...]) -> ValueSpec:
        return ValueSpec("series", tuple(values.shape[1:]), "CT", Real(-math.inf, math.inf), rate, names)

    before, after = own[..., :past].contiguous(), own[..., past:].contiguous()
    columns = {"past": Column(spec(before, channels), before)}
    if rest.shape[1]:
        titles = (*options.known, *(f"{f}({p:g} s)" for p in options.periods for f in ("sin", "cos")))
        columns["covariates"] = Column(spec(rest, titles), rest)
    return {"spec": DataSpec({"x": spec(after, channels)}), "x": after, "columns": columns}

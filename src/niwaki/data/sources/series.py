"""Series in windows: a past, and the future that is to be forecast. Splits are blocks of time.

Within every series the first share of the time is the training block, then comes validation, then test, and a
window lies wholly within one block: nothing that a model is tested on was seen in training, not even as the
past of a window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec, Real, ValueSpec
from niwaki.data.audit import Finding
from niwaki.data.columns import Column
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.reading.calendars import cycle
from niwaki.data.reading.recordings import Recording
from niwaki.data.reading.series_files import left_out, read_files, static_numbers
from niwaki.data.reading.series_on_board import read_on_board
from niwaki.data.reading.windows import Windows, blocks, carried_on, cut
from niwaki.data.splitting import SPLITS

__all__ = ["SeriesOptions", "series"]

_LARGEST = float(np.finfo(np.float32).max)  # what is beyond it counts as missing, as infinity does


class SeriesOptions(Options):
    """Settings of `series`.

    path:     a CSV or Parquet file, or a folder of them with the same columns; without one, `name`
    name:     a series on board: `membrane` (a nerve cell, 6 s at 2 kHz), `eeg` (4 channels, 10 s, 80 Hz), and
              of statsmodels `co2` `elnino` `sunspots` `elec_equip` `macrodata` `nile`
    time:     the column of times: seconds or dates; default: one called time, timestamp, date or datetime
    rate:     steps per second, where there is no column of times
    group:    the column that says which series a row belongs to, where a file holds several
    channels: columns that are forecast; default: all that are not otherwise named
    known:    columns that are known beforehand (prices, holidays): covariates of past and future
    static:   columns that are the same at all times of a series (a region, a size): numbers as they are,
              texts as one number for each that occurs
    calendar: of `hour` (of the day), `weekday` and `month` (of the year): covariates, a sine and a cosine
              each
    periods:  seconds of further cycles whose phase is given as covariates, likewise
    span:     first and last second of the time that is used; default: all of it
    resample: seconds that are averaged into one step, where steps are uneven
    missing:  `drop` leaves out windows with missing values; `mask` keeps them, with the columns `past_mask`
              and `x_mask` that are 1 where something was measured (elsewhere the last value goes on)
    past:     steps before the forecast; 0: windows are samples by themselves, and nothing is forecast
    future:   steps that are forecast, or of a sample
    stride:   steps between two windows; default: all windows in training, and elsewhere
    every:    steps that are averaged into one
    """

    path: str | None = None
    name: str = "membrane"
    time: str | None = None
    rate: float | None = Field(default=None, gt=0)
    group: str | None = None
    channels: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    calendar: tuple[Literal["hour", "weekday", "month"], ...] = ()
    periods: tuple[Annotated[float, Field(gt=0)], ...] = ()
    span: tuple[float, float] | None = None
    resample: float | None = Field(default=None, gt=0)
    missing: Literal["drop", "mask"] = "drop"
    past: int = Field(default=64, ge=0)
    future: int = Field(default=16, ge=1)
    stride: int = Field(default=1, ge=1)
    every: int = Field(default=1, ge=1)

    @field_validator("channels", "known", "static", "calendar", "periods")
    @classmethod
    def _distinct(cls, named: tuple[Any, ...]) -> tuple[Any, ...]:
        twice = [one for i, one in enumerate(named) if one in named[:i]]
        if twice:
            raise ValueError(f"must name each once, and names '{twice[0]}' twice")
        return named


@dataclass
class _Found:
    """Windows `(steps, channels + covariates)` as they are cut; of each its split, series and name."""

    windows: list[np.ndarray] = field(default_factory=list)
    splits: list[int] = field(default_factory=list)
    of: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    missing: int = 0


@register("series", SeriesOptions)
def series(config: DataConfig, options: SeriesOptions, progress: Progress | None) -> Pool:
    """Futures `(C, future)` as samples; columns `past` `(C, past)` and, where there are any, `covariates`
    `(K, past + future)`, `static` `(S,)`, `past_mask` and `x_mask`.

    Raises CallError for a missing or broken file, unknown columns, files with other columns than the first,
    steps without a rhythm, and blocks of time that are too short for a window.
    """
    if set(options.channels) & set(options.known):
        raise CallError("a column cannot be forecast (data.channels) and known beforehand (data.known)")
    if options.past == 1:
        raise CallError("data.past must be 0 or at least 2: one value has no spread")
    read, findings = _read(options)
    recordings = [_prepared(recording, options) for recording in read]
    first = recordings[0]
    channels = options.channels or tuple(c for c in first.channels if c not in options.known)
    if not channels:
        raise CallError(f"'{first.name}' has no column to forecast")
    static, titles = static_numbers(recordings, options.static)
    found = _Found()
    for k, recording in enumerate(recordings):
        findings += _cut(found, k, recording, channels, config.fractions, options)
        if progress:
            progress(k + 1, len(recordings))
    if found.missing:
        text = f"{found.missing} windows hold missing values or infinite ones and were set aside"
        findings.append(Finding("warning", "not finite", text))
    assignment = np.array(found.splits, dtype=np.int64)
    _enough(assignment, options, found.missing)
    x = torch.from_numpy(np.stack(found.windows).transpose(0, 2, 1))
    step = first.step
    rate = float(f"{1 / (step * options.every):.9g}") if step else None  # without the rounding of times
    columns = _columns(x, channels, rate, options)
    if titles:
        rows = torch.from_numpy(static[found.of])
        spec = ValueSpec("vector", (len(titles),), "C", Real(-math.inf, math.inf), names=titles)
        columns["static"] = Column(spec, rows)
    sample = columns.pop("x")
    return Pool(
        first.name if len(recordings) == 1 else "series",
        DataSpec({"x": sample.spec}),
        sample.data,
        columns=columns,
        assignment=assignment,
        item_names=found.names,
        findings=findings,
    )


def _read(options: SeriesOptions) -> tuple[list[Recording], list[Finding]]:
    """The recordings, and what was left out."""
    wanted = (*options.channels, *options.known) if options.channels else ()
    if options.path is not None:
        return read_files(options.path, options.time, options.group, options.static, wanted)
    recording = read_on_board(options.name)
    left = tuple(c for c in recording.channels if wanted and c not in wanted)
    return [recording], left_out(replace(recording, left=left))


def _prepared(recording: Recording, options: SeriesOptions) -> Recording:
    """The part of a recording in `span`, with times from its rate where it has none of its own, resampled,
    with rows for those that are missing: as the options say."""
    if recording.times is None and options.rate is not None:
        recording = replace(recording, times=np.arange(len(recording.values)) / options.rate)
    if options.span is not None:
        recording = _within(recording, options.span)
    if options.resample is not None:
        recording = recording.resampled(options.resample)
    return recording.filled() if options.missing == "mask" else recording


def _within(recording: Recording, span: tuple[float, float]) -> Recording:
    if recording.times is None:
        raise CallError("data.span needs times: name their column with data.time, or give data.rate")
    begin, end = span
    inside = (recording.times >= begin) & (recording.times < end)
    if not inside.any():
        raise CallError(
            f"data.span {begin:g} … {end:g} s lies outside '{recording.name}', which lasts from "
            f"{recording.times[0]:g} to {recording.times[-1]:g} s"
        )
    return replace(recording, values=recording.values[inside], times=recording.times[inside])


def _cut(
    found: _Found,
    number: int,
    recording: Recording,
    channels: Sequence[str],
    fractions: Sequence[float],
    options: SeriesOptions,
) -> list[Finding]:
    """Cut the windows of one recording."""
    table, stretches = _table(recording, channels, options), recording.stretches()
    windows = Windows(options.past + options.future, options.stride, options.every)
    for split, (begin, end) in enumerate(blocks(len(table), fractions)):
        for a, b in stretches:
            for start, window in cut(table, max(a, begin), min(b, end), windows, trains=split == 0):
                if not _usable(window, len(channels), options):
                    found.missing += 1
                    continue
                found.windows.append(window)
                found.splits.append(split)
                found.of.append(number)
                found.names.append(f"{recording.name} from step {start}")
    if len(stretches) == 1:
        return []
    text = f"the times of '{recording.name}' have {len(stretches) - 1} gaps; no window reaches across one"
    return [Finding("warning", "gaps", text)]


def _usable(window: np.ndarray, channels: int, options: SeriesOptions) -> bool:
    """Whether nothing is missing; with masks: nothing that is known beforehand, and of every channel at least
    two values of the past and one of the future."""
    known = np.isfinite(window)
    if options.missing == "drop":
        return bool(known.all())
    values, past = known[:, :channels], min(options.past, 2)
    enough = values[: options.past].sum(0) >= past, values[options.past :].any(0), known[:, channels:].all(0)
    return all(bool(each.all()) for each in enough)


def _table(recording: Recording, channels: Sequence[str], options: SeriesOptions) -> np.ndarray:
    """What windows are cut from: `(steps, channels + covariates)`."""
    columns = [recording.column(name) for name in (*channels, *options.known)]
    times = recording.times
    if options.calendar and not recording.dated:
        raise CallError(f"data.calendar needs dates, and '{recording.name}' has none")
    for name in options.calendar:
        assert times is not None
        columns += cycle(name, times)
    if options.periods and times is None:
        raise CallError("data.periods needs times: name their column with data.time, or give data.rate")
    for period in options.periods:
        angle = 2 * math.pi * times / period  # type: ignore[operator]
        columns += [np.sin(angle), np.cos(angle)]
    table = np.stack(columns, 1)
    return np.where(np.abs(table) <= _LARGEST, table, math.nan)


def _enough(assignment: np.ndarray, options: SeriesOptions, missing: int) -> None:
    counts = np.bincount(assignment, minlength=len(SPLITS))
    less = f" ({missing} of all blocks were set aside for missing values)" if missing else ""
    for k, name in enumerate(SPLITS):
        if counts[k] == 0:
            raise CallError(
                f"the {name} block of time is too short for a window of {options.past} + {options.future} "
                f"steps{less}; shorten data.past, data.future or data.every, or give more data"
            )


def _columns(
    windows: Tensor, channels: tuple[str, ...], rate: float | None, options: SeriesOptions
) -> dict[str, Column]:
    """Windows `(n, channels + covariates, past + future)` float64 as columns."""
    c, past = len(channels), options.past
    own, rest = windows[:, :c], windows[:, c:]
    found: dict[str, Column] = {}

    def enter(name: str, values: Tensor, names: tuple[str, ...], kind: Real) -> None:
        data = values.float().contiguous()
        found[name] = Column(ValueSpec("series", tuple(data.shape[1:]), "CT", kind, rate, names), data)

    any_value = Real(-math.inf, math.inf)
    if options.missing == "mask":
        known = torch.isfinite(own)
        own = torch.from_numpy(np.stack([carried_on(w.T).T for w in own.numpy()]))
        if past:
            enter("past_mask", known[..., :past], channels, Real(0.0, 1.0))
        enter("x_mask", known[..., past:], channels, Real(0.0, 1.0))
    if past:
        enter("past", own[..., :past], channels, any_value)
    if rest.shape[1]:
        cycles = (*options.calendar, *(f"{p:g} s" for p in options.periods))
        titles = (*options.known, *(f"{f}({name})" for name in cycles for f in ("sin", "cos")))
        enter("covariates", rest, titles, any_value)
    enter("x", own[..., past:], channels, any_value)
    return found

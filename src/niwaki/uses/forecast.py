"""How series in files go on: quantiles of paths that a model draws after the end of what was measured."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
from pydantic import Field

from niwaki.core.contract import CallError, ConditionSpec
from niwaki.data.reading.calendars import CYCLES, cycle, months_of, next_months
from niwaki.data.reading.recordings import Recording, recordings_of
from niwaki.data.reading.tables import read_table
from niwaki.data.reading.windows import carried_on
from niwaki.uses.base import Call, Outcome, Use, UseOptions, register_use

__all__ = ["Forecast", "ForecastOptions"]

PROGRAM, PAST, MASK, COVARIATES, STATIC = "forecast", "past", "past_mask", "covariates", "static"
_OTHER_STEP = 0.05  # share by which steps may be longer or shorter than those of training: months are
_CYCLE = re.compile(r"(sin|cos)\((.+)\)")


class ForecastOptions(UseOptions):
    """
    paths: that are drawn for each series
    low:   level of the lower quantile that is said
    high:  level of the upper one
    time:  the column of times; default: one called time, timestamp, date or datetime
    group: the column that says which series a row belongs to
    """

    paths: int = Field(100, ge=2)
    low: float = Field(0.1, gt=0, lt=1)
    high: float = Field(0.9, gt=0, lt=1)
    time: str | None = None
    group: str | None = None


@register_use("forecast")
class Forecast(Use):
    """The steps after the last one that was measured of every series in the files: median and quantiles.

    A file has the columns that the model forecasts, in the steps that it was trained on; where it was told
    columns that are known beforehand, rows whose other cells are empty give those of the future.
    """

    Options = ForecastOptions
    summary = "how series in CSV or Parquet files go on: median and quantiles of every step"
    example = "runs/weekly-co2 co2.csv paths=200 -o forecast.csv"

    def apply(self, call: Call, options: ForecastOptions) -> Outcome:
        runner = call.model
        program = runner.programs().get(PROGRAM)
        if program is None or PAST not in program.inputs:
            raise CallError(f"{call.path} has no program '{PROGRAM}' that is given a past")
        if not options.low < options.high:
            raise CallError(f"low must lie below high, not {options.low} and {options.high}")
        if not call.files:
            raise CallError("name a CSV or Parquet file of series to go on with")
        channels = program.inputs[PAST].value.names
        static = program.inputs[STATIC].value.names if STATIC in program.inputs else ()
        found: list[tuple[Recording, dict[str, np.ndarray], np.ndarray | None]] = []
        for file in call.files:
            table = read_table(file, file.name)
            columns = [t for t in table.titles if any(n == t or n.startswith(f"{t} ") for n in static)]
            wanted = (*channels, *(n for n in _known(program.inputs) if n not in channels))
            for recording in recordings_of(
                table, time=options.time, group=options.group, static=columns, wanted=wanted
            ):
                found.append((recording, *_given(recording, program.inputs, program.output.shape[-1])))
        k = options.paths
        given = {
            name: np.repeat(np.stack([inputs[name] for _, inputs, _ in found]), k, 0).astype(np.float32)
            for name in program.inputs
        }
        made = np.asarray(
            runner.backend().numpy(runner.run(PROGRAM, len(found) * k, seed=call.seed, inputs=given))
        )
        if not np.isfinite(made).all():
            raise CallError("the forecasts are no finite numbers; the files may hold far too large ones")
        paths = made.reshape(len(found), k, *program.output.shape)
        levels = (options.low, 0.5, options.high)
        said = np.quantile(paths.astype(np.float64), levels, axis=1, method="weibull")
        rows = [
            {
                "series": recording.name,
                "step": t + 1,
                **({} if times is None else {"time": _when(times[t], recording.dated)}),
                "channel": channel,
                **{f"q{level:g}": round(float(said[q, i, c, t]), 6) for q, level in enumerate(levels)},
            }
            for i, (recording, _, times) in enumerate(found)
            for c, channel in enumerate(channels)
            for t in range(said.shape[-1])
        ]
        lines = [
            f"{recording.name}: {said.shape[-1]} steps on, {channel} {said[1, i, c, -1]:.4g} at the end "
            f"({said[0, i, c, -1]:.4g} to {said[2, i, c, -1]:.4g})"
            for i, (recording, _, _) in enumerate(found)
            for c, channel in enumerate(channels)
        ]
        return Outcome(
            record={"series": len(found), "paths": k, "rows": rows}, lines=lines, rows=rows, x=made,
            spec=program.output, names=[f"{r.name} {j}" for r, _, _ in found for j in range(k)],
        )  # fmt: skip


def _known(inputs: Mapping[str, ConditionSpec]) -> list[str]:
    """Covariates that are columns of the file."""
    names = inputs[COVARIATES].value.names if COVARIATES in inputs else ()
    return [name for name in names if not _CYCLE.fullmatch(name)]


def _given(
    recording: Recording, inputs: Mapping[str, ConditionSpec], steps: int
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """What the model is given of one series, a row of each input, and the times of the future."""
    spec = inputs[PAST].value
    channels, past = spec.shape
    _same_steps(recording, spec.rate)
    values = recording.filled() if recording.times is not None else recording
    measured = np.flatnonzero(np.isfinite(values.values[:, :channels]).any(1))
    if not len(measured) or measured[-1] + 1 < past:
        raise CallError(f"'{recording.name}' has too few steps; the model reads the last {past}")
    end = int(measured[-1]) + 1
    window = values.values[end - past : end, :channels]
    known = np.isfinite(window)
    if MASK not in inputs and not known.all():
        raise CallError(
            f"the last {past} steps of '{recording.name}' have missing values, and this model was not "
            "trained with masks (data.missing: mask)"
        )
    found = {PAST: carried_on(window).T, MASK: known.T.astype(np.float64)}
    times = None if values.times is None else _continued(values, end, steps)
    if COVARIATES in inputs:
        found[COVARIATES] = _covariates(values, inputs[COVARIATES].value.names, end - past, end, steps, times)
    if STATIC in inputs:
        _all_known(recording, inputs[STATIC].value.names)
        found[STATIC] = np.array([_static(recording, name) for name in inputs[STATIC].value.names])
    return {name: found[name] for name in inputs}, times


def _continued(recording: Recording, end: int, steps: int) -> np.ndarray:
    """Times of the steps after the last one that was measured."""
    assert recording.times is not None
    times = recording.times[:end]
    months = months_of(times) if recording.dated else None
    if months is not None:
        return next_months(times[-1], months[1], steps)
    return times[-1] + (recording.step or 1.0) * np.arange(1, steps + 1)


def _covariates(
    recording: Recording,
    names: tuple[str, ...],
    begin: int,
    end: int,
    steps: int,
    later: np.ndarray | None,
) -> np.ndarray:
    """`(K, past + steps)`: cycles from the times, other columns as they stand."""
    rows = []
    for name in names:
        of = _CYCLE.fullmatch(name)
        if of is None:
            column = recording.column(name)[begin : end + steps]
            if len(column) < end - begin + steps or not np.isfinite(column).all():
                raise CallError(
                    f"the model is told '{name}' beforehand: '{recording.name}' must hold it for the "
                    f"{steps} steps after the last one too, in rows whose other cells are empty"
                )
            rows.append(column)
            continue
        if recording.times is None or later is None:
            raise CallError(f"'{recording.name}' needs a column of times, of which the model is told {name}")
        times = np.concatenate([recording.times[begin:end], later])
        if of[2] in CYCLES:
            if not recording.dated:
                raise CallError(f"the times of '{recording.name}' must be dates: the model is told {name}")
            sine, cosine = cycle(of[2], times)
        else:
            angle = 2 * math.pi * times / float(of[2].removesuffix(" s"))
            sine, cosine = np.sin(angle), np.cos(angle)
        rows.append(sine if of[1] == "sin" else cosine)
    return np.stack(rows)


def _static(recording: Recording, name: str) -> float:
    """A column of numbers as it is; of texts 1 where it holds what the name says after the column's."""
    titles = [title for title in recording.static if name == title or name.startswith(f"{title} ")]
    if not titles:
        raise CallError(
            f"'{recording.name}' has no column for '{name}', which the model is told of every series"
        )
    title = max(titles, key=len)  # of the columns 'shop' and 'shop size', 'shop size' says the size
    cell = recording.static[title]
    if name != title:
        return float(cell == name[len(title) + 1 :])
    try:
        return float(cell)
    except ValueError:
        raise CallError(f"'{recording.name}': '{cell}' in the column '{title}' is no number") from None


def _all_known(recording: Recording, names: tuple[str, ...]) -> None:
    """Raises CallError for a static text that no series of the training had."""
    for title, cell in recording.static.items():
        if title not in names and f"{title} {cell}" not in names:
            raise CallError(
                f"'{recording.name}' has '{cell}' in the column '{title}', which no series had in training"
            )


def _same_steps(recording: Recording, rate: float | None) -> None:
    """Raises CallError for other steps than those of training; rate: steps per second there."""
    step = recording.step
    if step is not None and rate and abs(step * rate - 1) > _OTHER_STEP:
        raise CallError(
            f"the steps of '{recording.name}' are {step:g} s long, and those that the model was trained on "
            f"{1 / rate:g} s"
        )


def _when(time: float, dated: bool) -> str | float:
    if not dated:
        return round(float(time), 9)
    return datetime.fromtimestamp(float(time), UTC).replace(tzinfo=None).isoformat()

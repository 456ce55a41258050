"""Tables of series: CSV and Parquet alike, several series in one, calendars, missing values, uneven steps."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.reading.calendars import cycle, months_of, next_months
from niwaki.data.reading.recordings import Recording
from niwaki.data.reading.series_on_board import ON_BOARD, read_on_board
from niwaki.data.reading.windows import averaged, carried_on

SPLITS = ("train", "validation", "test")
STATSMODELS = [name for name in ON_BOARD if name not in ("membrane", "eeg")]


def as_csv(path: Path, columns: dict[str, list[Any]]) -> Path:
    rows = [",".join("" if v is None else str(v) for v in row) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([",".join(columns), *rows]) + "\n")
    return path


def as_parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), path)
    return path


def read(path: Path, **settings: Any) -> Dataset:
    return load(DataConfig(source="series", path=str(path), **{"past": 10, "future": 5, **settings}))


def stores(n: int = 200) -> dict[str, list[Any]]:
    """Two stores day by day, their rows in turns: one counts from 0, one from 1000."""
    first = datetime(2024, 1, 1)
    days = [first + timedelta(days=d) for d in range(n)]
    return {
        "date": [day for day in days for _ in range(2)],
        "store": ["north", "south"] * n,
        "area": [12.5, 40.0] * n,
        "sales": [float(v) for d in range(n) for v in (d, 1000 + d)],
    }


@pytest.mark.parametrize("write", [as_csv, as_parquet], ids=["csv", "parquet"])
def test_groups_are_series_of_their_own_with_what_is_static(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / f"stores.{write.__name__[3:]}", stores())
    dataset = read(path, group="store", static=["area", "store"], calendar=["weekday"], channels=["sales"])
    assert dataset.spec["static"].names == ("area", "store north", "store south")
    assert dataset.spec["covariates"].names == ("sin(weekday)", "cos(weekday)")
    assert dataset.spec.x.rate == pytest.approx(1 / 86400)
    for name in SPLITS:
        split = dataset.split(name)
        rows = torch.cat([split.columns["past"].data, split.x], 2)[:, 0].numpy()
        assert (np.diff(rows, axis=1) == 1).all(), "a window mixes two series"
        south = rows[:, 0] >= 1000
        assert 0 < south.mean() < 1
        wanted = np.where(south[:, None], [40.0, 0.0, 1.0], [12.5, 1.0, 0.0])
        np.testing.assert_array_equal(split.columns["static"].data.numpy(), wanted)
        # 1 January 2024 was a Monday.
        sine = np.sin(2 * math.pi * (rows % 1000) / 7)
        np.testing.assert_allclose(split.columns["covariates"].data[:, 0].numpy(), sine, atol=1e-4)


def test_parquet_and_csv_give_the_same_windows(tmp_path: Path) -> None:
    columns = {
        "time": [float(t) for t in range(200)],
        "value": [None if t == 30 else t / 7 for t in range(200)],
    }
    sets = [read(as_csv(tmp_path / "a.csv", columns)), read(as_parquet(tmp_path / "a.parquet", columns))]
    assert sets[0].fingerprint == sets[1].fingerprint
    assert len(sets[0].train) == 140 - 14 - 15


@pytest.mark.parametrize("write", [as_csv, as_parquet], ids=["csv", "parquet"])
def test_masks_say_what_was_measured_and_the_last_value_goes_on(tmp_path: Path, write: Any) -> None:
    missing = {40, 41, 90}
    values = [None if t in missing else float(t) for t in range(300) if t != 60]
    times = [float(t) for t in range(300) if t != 60]  # one row is missing as a whole
    path = write(tmp_path / f"a.{write.__name__[3:]}", {"time": times, "value": values})
    dataset = read(path, missing="mask")
    split = dataset.train
    assert len(split) == 210 - 14, "no window is left out"
    past, mask = (split.columns[name].data[:, 0].numpy() for name in ("past", "past_mask"))
    whole = np.concatenate([past, split.x[:, 0].numpy()], 1)
    known = np.concatenate([mask, split.columns["x_mask"].data[:, 0].numpy()], 1) == 1
    for row, seen in zip(whole, known, strict=True):
        first = int(row[seen][0] - np.flatnonzero(seen)[0])
        steps = np.arange(first, first + 15)
        assert (seen == [t not in {*missing, 60} for t in steps]).all()
        assert (row[seen] == steps[seen]).all()
        for t in np.flatnonzero(~seen):
            before = np.flatnonzero(seen[:t])
            assert row[t] == (row[before[-1]] if len(before) else row[seen][0])
    dropped = read(path, missing="drop")
    assert len(dropped.train) < len(split)
    assert "past_mask" not in dropped.spec


def test_windows_without_a_past_are_samples_by_themselves(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "a.csv", {"time": list(range(300)), "value": list(range(300))})
    dataset = read(path, past=0, future=20)
    assert tuple(dataset.spec) == ("x",)
    assert dataset.spec.shape == (1, 20)
    assert len(dataset.train) == 210 - 19
    with pytest.raises(CallError, match="must be 0 or at least 2"):
        read(path, past=1)


def test_uneven_steps_are_refused_or_averaged_as_asked(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.2, 1.8, 1200))
    path = as_csv(tmp_path / "a.csv", {"time": times.tolist(), "value": times.tolist()})
    with pytest.raises(CallError, match=r"'a\.csv' are uneven, 0\.2\d* to 1\.\d* s; give data\.resample"):
        read(path)
    dataset = read(path, resample=5.0)
    whole = torch.cat([dataset.train.columns["past"].data, dataset.train.x], 2)[:, 0].numpy()
    centres = times[0] + 5.0 * (np.floor((whole - times[0]) / 5.0) + 0.5)
    assert np.abs(whole - centres).max() < 2.5
    assert dataset.spec.x.rate == pytest.approx(0.2)
    with pytest.raises(CallError, match="give a longer one"):
        read(path, resample=0.01)


def test_averages_are_of_what_is_known() -> None:
    rows = np.array([[1.0], [math.nan], [5.0], [math.nan], [math.nan], [math.nan], [7.0]])
    np.testing.assert_array_equal(averaged(rows, 3), [[3.0], [math.nan]])
    recording = Recording("a", ("v",), rows, np.array([0.0, 0.4, 0.9, 1.0, 1.5, 2.1, 9.9]), "")
    np.testing.assert_array_equal(recording.resampled(2.0).values[:, 0], [3.0, *[math.nan] * 3, 7.0])


def test_carrying_on_begins_with_the_first_known_value() -> None:
    window = np.array([[math.nan, math.nan], [2.0, math.nan], [math.nan, math.nan], [4.0, math.nan]])
    np.testing.assert_array_equal(carried_on(window), [[2, 0], [2, 0], [2, 0], [4, 0]])


def test_months_quarters_and_years_are_even_steps() -> None:
    def dates(*months: int, day: int = 1) -> np.ndarray:
        when = [datetime(1960 + m // 12, m % 12 + 1, day) for m in months]
        return np.array([(d - datetime(1970, 1, 1)).total_seconds() for d in when])

    for step in (1, 3, 12):
        found = months_of(dates(*range(0, 60 * step, step), day=15))
        assert found is not None
        assert found[1] == step
    times = dates(0, 1, 2, 4, 5)
    recording = Recording("a", ("v",), np.arange(5.0)[:, None], times, "", dated=True)
    assert recording.stretches() == [(0, 3), (3, 5)]
    np.testing.assert_array_equal(recording.filled().values[:, 0], [0, 1, 2, math.nan, 3, 4])
    np.testing.assert_array_equal(recording.filled().times, dates(0, 1, 2, 3, 4, 5))
    np.testing.assert_array_equal(next_months(dates(11)[0], 3, 3), dates(14, 17, 20))
    last = np.array(
        [np.datetime64(d, "s").astype(np.int64) for d in ("2023-01-31", "2023-02-28", "2023-03-31")]
    )
    assert months_of(last.astype(float)) is not None, "the last day of each month"
    np.testing.assert_array_equal(next_months(float(last[0]), 1, 2), last[1:])
    assert months_of(np.arange(10) * 86400.0) is None


@pytest.mark.parametrize(
    ("name", "date", "share"),
    [
        ("hour", datetime(2024, 5, 17, 6), 0.25),
        ("hour", datetime(1969, 5, 17, 18), 0.75),
        ("weekday", datetime(2024, 1, 1), 0.0),
        ("weekday", datetime(2024, 1, 4, 12), 0.5),
        ("month", datetime(2023, 1, 1), 0.0),
        ("month", datetime(2024, 7, 2), 0.5),
    ],
)
def test_cycles_of_the_calendar(name: str, date: datetime, share: float) -> None:
    sine, cosine = cycle(name, np.array([(date - datetime(1970, 1, 1)).total_seconds()]))
    assert sine[0] == pytest.approx(math.sin(2 * math.pi * share), abs=1e-9)
    assert cosine[0] == pytest.approx(math.cos(2 * math.pi * share), abs=1e-9)


@pytest.mark.parametrize("name", STATSMODELS)
def test_series_of_statsmodels_are_even_and_known(name: str) -> None:
    pytest.importorskip("statsmodels")
    recording = read_on_board(name)
    shape, first, rate = {
        "co2": ((2284, 1), 316.1, 86400 * 7),
        "elnino": ((732, 1), 23.11, 365.2425 * 7200),
        "sunspots": ((309, 1), 5.0, 365.2425 * 86400),
        "elec_equip": ((257, 1), 66.19, 365.2425 * 7200),
        "macrodata": ((203, 12), 2710.349, 365.2425 * 21600),
        "nile": ((100, 1), 1120.0, 365.2425 * 86400),
    }[name]
    assert recording.values.shape == shape
    assert recording.values[0, 0] == first
    assert recording.step == pytest.approx(rate)
    assert recording.stretches() == [(0, shape[0])]
    assert np.isnan(recording.values).sum() == (59 if name == "co2" else 0)


def test_what_cannot_be_meant_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "a.csv", stores())

    def refused(match: str, **settings: Any) -> None:
        with pytest.raises(CallError, match=match):
            read(path, **settings)

    refused("name the column of series with data.group", channels=["sales"])
    refused("has no column 'shop' \\(data.group\\)", group="shop")
    refused("row 2: 'north' is no number")
    refused("'sales' of 'a.csv north' changes over time", group="store", static=["sales"], channels=["area"])
    refused("no column 'areas'", group="store", channels=["areas"])
    plain = as_csv(tmp_path / "b.csv", {"time": list(range(300)), "value": list(range(300))})
    with pytest.raises(CallError, match="calendar needs dates"):
        read(plain, calendar=["hour"])
    with pytest.raises(CallError, match="resample needs times"):
        read(as_csv(tmp_path / "c.csv", {"value": list(range(300))}), resample=2.0)
    mixed = as_csv(tmp_path / "d.csv", {"time": [0, "2024-01-01"], "value": [1, 2]})
    with pytest.raises(CallError, match="both numbers and dates"):
        read(mixed)
    (tmp_path / "e.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(CallError, match=r"'e\.parquet' (cannot be read as|is) a Parquet file"):
        read(tmp_path / "e.parquet")


@pytest.mark.parametrize("write", [as_csv, as_parquet], ids=["csv", "parquet"])
@pytest.mark.parametrize("column", ["store", "area", "kind"])
def test_a_series_without_a_name_or_what_is_static_is_no_series_called_none(
    tmp_path: Path, write: Any, column: str
) -> None:
    table = {**stores(), "kind": ["shop", "stall"] * 200}
    table[column] = [None if i == 7 else cell for i, cell in enumerate(table[column])]
    path = write(tmp_path / f"stores.{write.__name__[3:]}", table)
    with pytest.raises(CallError, match=rf"'{column}' .* has missing values, first in row (8|9)"):
        read(path, group="store", static=["area", "kind"], channels=["sales"])


@pytest.mark.parametrize("setting", ["channels", "known", "static", "calendar", "periods"])
def test_what_is_named_twice_is_refused(tmp_path: Path, setting: str) -> None:
    named = {"calendar": "hour", "periods": 60.0}.get(setting, "sales")
    with pytest.raises(CallError, match=f"{setting}.*twice"):
        read(tmp_path / "any.csv", **{setting: [named, named]})


@pytest.mark.parametrize("period", [0.0, -60.0])
def test_a_cycle_has_a_length(tmp_path: Path, period: float) -> None:
    with pytest.raises(CallError, match="greater than 0"):
        read(tmp_path / "any.csv", periods=[period])


@pytest.mark.parametrize("missing", ["drop", "mask"])
@pytest.mark.parametrize("value", [1e39, -1e300, math.inf, math.nan])
def test_what_float32_does_not_hold_is_missing(tmp_path: Path, missing: str, value: float) -> None:
    table = {"time": list(range(200)), "a": [float(i % 17 + i) for i in range(200)]}
    table["a"][20] = value
    dataset = read(as_csv(tmp_path / "a.csv", table), missing=missing)
    for split in (dataset.train, dataset.validation, dataset.test):
        assert all(torch.isfinite(t).all() for t in split.tensors().values())
    if missing == "mask":
        assert (dataset.train.tensors()["past_mask"] == 0).sum() > 0


def test_when_all_is_missing_that_is_what_is_said(tmp_path: Path) -> None:
    table = {"time": list(range(200)), "a": [None] * 200}
    with pytest.raises(CallError, match="set aside for missing values"):
        read(as_csv(tmp_path / "a.csv", table))


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, -(2**62) - 1])
def test_whole_numbers_are_read_as_float64_has_them(tmp_path: Path, number: int) -> None:
    table = {"time": list(range(200)), "a": list(range(200)), "id": [number] * 200}
    dataset = read(as_parquet(tmp_path / "a.parquet", table), channels=["a"], static=["id"])
    assert float(dataset.train.tensors()["static"][0, 0]) == np.float32(number)

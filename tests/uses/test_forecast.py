"""The use `forecast`: the end of every series in a file goes on, with all that the model is told."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import niwaki
from niwaki import models
from niwaki.core.contract import CallError
from niwaki.data import DataConfig, load
from niwaki.data.reading.recordings import Recording
from niwaki.models.io import save_model
from niwaki.uses.forecast import _static

FIRST = datetime(2024, 1, 1)
SETTINGS = {"width": 4, "hidden": 8, "season": 7, "head": "gaussian"}


def table(path: Path, days: int, unknown: int = 0, missing: tuple[int, ...] = ()) -> Path:
    """Two stores day by day; of the last `unknown` days only the price is known."""
    rows = ["date,store,area,sales,price"]
    for d in range(days):
        for store, area, base in (("north", 1.5, 0.0), ("south", 4.0, 1000.0)):
            gone = d >= days - unknown or d in missing
            sales = "" if gone else base + d % 7 + 0.01 * d
            rows.append(f"{FIRST + timedelta(days=d):%Y-%m-%d},{store},{area},{sales},{d % 3}")
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    data = load(
        DataConfig(
            source="series",
            path=str(table(folder / "stores.csv", 200)),
            group="store",
            channels=["sales"],
            known=["price"],
            static=["area", "store"],
            calendar=["weekday"],
            missing="mask",
            past=14,
            future=5,
        )
    )
    torch.manual_seed(0)
    made = models.build("forecaster", SETTINGS, data.spec).eval()
    torch.nn.init.zeros_(made.say.weight)  # says the last season, with a deviation of the window's own
    torch.nn.init.zeros_(made.say.bias)
    save_model(made, folder / "model")
    return folder / "model"


def ask(model: Path, file: Path, **settings: Any) -> Any:
    return niwaki.use("forecast", model, [file], group="store", paths=400, **settings)


def test_series_go_on_after_their_last_value_with_what_is_known(model: Path, tmp_path: Path) -> None:
    file = table(tmp_path / "now.csv", 100, unknown=5, missing=(90,))
    done = ask(model, file, out=tmp_path / "forecast.csv")
    with (tmp_path / "forecast.csv").open() as text:
        rows = list(csv.DictReader(text))
    assert [row["series"] for row in rows] == ["now.csv north"] * 5 + ["now.csv south"] * 5
    assert rows[0]["time"] == (FIRST + timedelta(days=95)).isoformat()
    assert rows[4]["time"] == (FIRST + timedelta(days=99)).isoformat()
    for row, base in zip(rows, [0] * 5 + [1000] * 5, strict=True):
        d = 94 + int(row["step"])
        if d - 7 == 90:
            continue  # which was not measured
        # Exactly what stood there a week before, as the median of 400 paths.
        assert float(row["q0.5"]) == pytest.approx(base + (d - 7) % 7 + 0.01 * (d - 7), abs=0.5)
        assert float(row["q0.1"]) < float(row["q0.5"]) < float(row["q0.9"])
    assert done.record["series"] == 2
    assert "5 steps on" in done.lines[0]


def test_what_the_model_is_given_is_what_training_gave_it(model: Path, tmp_path: Path) -> None:
    """The inputs that are made of a file's end equal the data set's columns of that window."""
    from niwaki.data.reading.recordings import recordings_of
    from niwaki.data.reading.tables import read_table
    from niwaki.models import load_model
    from niwaki.uses.forecast import _given

    program = load_model(model).programs()["forecast"]
    whole = read_table(table(tmp_path / "whole.csv", 200), "whole.csv")
    data = load(
        DataConfig(
            source="series",
            path=str(tmp_path / "whole.csv"),
            group="store",
            channels=["sales"],
            known=["price"],
            static=["area", "store"],
            calendar=["weekday"],
            missing="mask",
            past=14,
            future=5,
        )
    )
    recordings = recordings_of(whole, group="store", static=["area", "store"], wanted=["sales", "price"])
    for recording in recordings:
        recording.values[195:, 0] = math.nan
        rows, _ = _given(recording, program.inputs, 5)
        test = data.test
        at = [i for i in range(len(test)) if np.allclose(test.columns["past"].data[i], rows["past"])]
        assert at
        for name in program.inputs:
            found = test.columns[name].data.numpy()
            assert any(np.allclose(found[i], rows[name], atol=1e-4) for i in at), name


def test_what_is_not_there_is_said(model: Path, tmp_path: Path) -> None:
    with pytest.raises(CallError, match=r"told 'price' beforehand: .* for the 5 steps after"):
        ask(model, table(tmp_path / "a.csv", 100, unknown=3))
    with pytest.raises(CallError, match="too few steps; the model reads the last 14"):
        ask(model, table(tmp_path / "b.csv", 15, unknown=5))
    with pytest.raises(CallError, match="name a CSV or Parquet file"):
        niwaki.use("forecast", model)
    with pytest.raises(CallError, match="low must lie below high"):
        ask(model, table(tmp_path / "c.csv", 100, unknown=5), low=0.9, high=0.1)
    (tmp_path / "d.csv").write_text("date,store,area,price\n2024-01-01,north,1,1\n")
    with pytest.raises(CallError, match="no column 'sales'"):
        ask(model, tmp_path / "d.csv")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.replace("north", "east"), "'east' in the column 'store'"),
        (lambda s: re.sub(r"(\d{4}-\d\d-\d\d)", _seconds, s), "must be dates"),
        (lambda s: re.sub(r"2024-01-(\d\d)", r"2024-01-01T\1:00", s), "3600 s long"),
    ],
)
def test_a_file_unlike_the_training_is_refused(
    change: Callable[[str], str], says: str, model: Path, tmp_path: Path
) -> None:
    file = table(tmp_path / "now.csv", 23, unknown=5)
    file.write_text(change(file.read_text()))
    with pytest.raises(CallError, match=says):
        ask(model, file)


def _seconds(found: re.Match[str]) -> str:
    return str((datetime.fromisoformat(found[1]) - FIRST).total_seconds())


def test_a_column_whose_name_begins_with_another_is_itself() -> None:
    cells = {"shop": "small", "shop size": "2.5", "shop kind": "b"}
    made = Recording("a", (), np.zeros((3, 0)), None, "", static=cells)
    names = ("shop small", "shop large", "shop size", "shop kind a", "shop kind b")
    assert [_static(made, name) for name in names] == [1.0, 0.0, 2.5, 0.0, 1.0]

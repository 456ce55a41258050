"""Series in windows: splits by time without a leak, CSV files, gaps, covariates."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, load


def write(path: Path, columns: dict[str, object]) -> Path:
    rows = zip(*columns.values(), strict=True)  # type: ignore[call-overload]
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def counted(path: Path, n: int = 300, **more: object) -> Path:
    """A series whose values are the numbers of its steps: a window says where it lies."""
    return write(path, {"time": np.arange(n) * 0.5, "value": np.arange(n), **more})


def steps(dataset: Dataset, name: str) -> np.ndarray:
    """The steps that the windows of a split cover `(n, past + future)`."""
    split = dataset.split(name)
    return torch.cat([split.columns["past"].data, split.x], 2)[:, 0].numpy()


def test_windows_lie_within_blocks_of_time_that_follow_each_other(tmp_path: Path) -> None:
    path = counted(tmp_path / "a.csv")
    dataset = load(DataConfig(source="series", path=str(path), past=10, future=5))
    edges = {"train": (0, 210), "validation": (210, 240), "test": (240, 300)}
    for name, (begin, end) in edges.items():
        covered = steps(dataset, name)
        assert (np.diff(covered, axis=1) == 1).all(), "a window is not one stretch of time"
        assert (covered.min(), covered.max()) == (begin, end - 1)
        assert len(covered) == end - begin - 14
    assert dataset.spec.x.rate == 2.0
    assert dataset.spec["past"].names == ("value",)
    again = load(DataConfig(source="series", path=str(path.rename(tmp_path / "b.csv")), past=10, future=5))
    assert again.fingerprint == dataset.fingerprint


def test_averages_of_several_steps_do_not_reach_over_the_border(tmp_path: Path) -> None:
    path = counted(tmp_path / "a.csv", 600)
    dataset = load(DataConfig(source="series", path=str(path), past=10, future=5, every=4))
    train, later = steps(dataset, "train"), steps(dataset, "validation")
    assert train.max() + 1.5 <= 419  # a value is the mean of four steps: its last one lies 1.5 later
    assert later.min() - 1.5 >= 420
    assert {float(row[0]) % 4 for row in train} == {0.5, 1.5, 2.5, 3.5}, "training begins at every step"
    assert {float(row[0]) % 4 for row in later} == {1.5}
    assert dataset.spec.x.rate == 0.5


def test_what_is_known_beforehand_covers_past_and_future(tmp_path: Path) -> None:
    path = counted(tmp_path / "a.csv", price=np.arange(300) * 10, other=np.arange(300) + 0.5)
    config = DataConfig(
        source="series", path=str(path), past=10, future=5, channels=["value", "other"], known=["price"],
        periods=[20.0],
    )  # fmt: skip
    dataset = load(config)
    covariates = dataset.train.columns["covariates"].data
    assert dataset.spec["covariates"].names == ("price", "sin(20 s)", "cos(20 s)")
    assert tuple(covariates.shape[1:]) == (3, 15)
    step = steps(dataset, "train")
    np.testing.assert_allclose(covariates[:, 0].numpy(), step * 10)
    np.testing.assert_allclose(covariates[:, 1].numpy(), np.sin(2 * math.pi * step * 0.5 / 20), atol=1e-5)
    assert dataset.spec.shape == (2, 5)


def test_no_window_reaches_over_a_gap_or_a_missing_value(tmp_path: Path) -> None:
    times = np.concatenate([np.arange(150), np.arange(150) + 400.0])
    values: list[object] = list(range(300))
    values[40] = ""
    path = write(tmp_path / "a.csv", {"time": times, "value": values})
    dataset = load(DataConfig(source="series", path=str(path), past=10, future=5))
    for name in ("train", "validation", "test"):
        for row in steps(dataset, name):
            assert not (row[0] < 150 <= row[-1])
            assert 40 not in row
    assert "1 gaps" in dataset.audit.of_kind("gaps")[0].text
    assert "15 windows hold missing values" in dataset.audit.of_kind("not finite")[0].text


def test_files_of_a_folder_are_divided_each_by_its_own_time(tmp_path: Path) -> None:
    counted(tmp_path / "a.csv")
    write(tmp_path / "b.csv", {"time": np.arange(300) * 0.5, "value": np.arange(300) + 1000})
    dataset = load(DataConfig(source="series", path=str(tmp_path), past=10, future=5))
    covered = steps(dataset, "test")
    assert {int(row[0]) // 1000 for row in covered} == {0, 1}
    assert (covered % 1000 >= 240).all()
    (tmp_path / "b.csv").write_text("time,price\n0,1\n1,2\n")
    with pytest.raises(CallError, match=r"b\.csv have other columns than 'a\.csv'"):
        load(DataConfig(source="series", path=str(tmp_path), past=10, future=5))


def test_dates_semicolons_and_a_span(tmp_path: Path) -> None:
    rows = [f"2024-01-{1 + h // 24:02d}T{h % 24:02d}:00:00;{h}" for h in range(480)]
    (tmp_path / "a.csv").write_text("date;load\n" + "\n".join(rows))
    base = {"source": "series", "path": str(tmp_path / "a.csv"), "past": 24, "future": 6}
    dataset = load(DataConfig(**base, periods=[86400]))
    assert dataset.spec.x.rate == pytest.approx(1 / 3600)
    sine = dataset.train.columns["covariates"].data[:, 0]
    np.testing.assert_allclose(sine.numpy(), np.sin(2 * math.pi * steps(dataset, "train") / 24), atol=1e-4)
    first = 1704067200.0  # 2024-01-01 in seconds
    part = load(DataConfig(**base, span=[first + 36000, first + 3600 * 400]))
    assert min(steps(part, name).min() for name in ("train", "validation", "test")) == 10
    assert max(steps(part, name).max() for name in ("train", "validation", "test")) == 399


def test_the_recordings_on_board_are_real_and_have_their_rates() -> None:
    cell = load(DataConfig(source="series", name="membrane", every=4, past=64, future=16))
    assert (cell.spec.shape, cell.spec.x.rate) == ((1, 16), 500.0)
    assert -70 < float(cell.train.x.min()) < -60  # at rest, in mV
    assert 0 > float(cell.test.x.max()) > -20  # firing
    eeg = load(DataConfig(source="series", name="eeg", past=32, future=8))
    assert (eeg.spec.shape, eeg.spec.x.rate) == ((4, 8), 80.0)
    assert float(eeg.train.x.std()) == pytest.approx(1.0, abs=0.2)


def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"

    def refused(match: str, **settings: object) -> None:
        with pytest.raises(CallError, match=match):
            load(DataConfig(source="series", path=str(path), past=10, future=5, **settings))

    refused("does not exist")
    counted(path, 40)
    refused("the validation block of time is too short for a window of 10 \\+ 5")
    counted(path)
    refused("has no column 'vlaue'; did you mean 'value'", channels=["vlaue"])
    refused("has no column 'hour' \\(data.time\\)", time="hour")
    refused("lies outside 'a.csv', which lasts from 0 to 149.5 s", span=[200, 300])
    path.write_text("value\n1\n2\nthree\n")
    refused("row 4: 'three' is no number")
    refused("row 4", rate=2.0)
    path.write_text("value\n" + "\n".join(map(str, range(300))))
    refused("data.periods needs times", periods=[10])
    path.write_text("time,value\n0,1\n2,1\n1,1\n")
    refused("must rise from row to row")
    path.write_text("time,value\n0,1\n1\n")
    refused("row 3 has 1 cells, the first one 2")
    with pytest.raises(CallError, match="no series 'eeeg' on board; did you mean 'eeg'"):
        load(DataConfig(source="series", name="eeeg"))

"""The range of float samples: one rule for training data and for files of samples, and always said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.reading.ranges import SIGNED, UNIT, clipped, guessed, read_as
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.subjects.array_samples import read_arrays

RNG = np.random.default_rng(0)
GREY = RNG.uniform(0.0, 1.0, (60, 1, 8, 8))
SPEC = DataSpec.of("image", (1, 8, 8))


def put(x: np.ndarray, *values: float) -> np.ndarray:
    """The array with its first values replaced."""
    out = x.copy()
    out.reshape(-1)[: len(values)] = values
    return out


def train(path: Path, x: np.ndarray, **settings: Any) -> Dataset:
    np.save(path / "d.npy", x)
    return load(DataConfig(source="arrays", path=str(path / "d.npy"), **settings))


def pixels(dataset: Dataset) -> np.ndarray:
    return np.sort(np.concatenate([s.values().numpy().reshape(-1) for s in dataset.splits.values()]))


LIKE_UNIT = {
    "one value of -1e-7": put(GREY, -1e-7),
    "one value above 1": put(GREY, 1 + 1e-6),
    "rounded a quarter level below": put(GREY, *[-0.001] * 500),
    "few rings": put(GREY, -0.12, -0.2, 1.1),
    "float16": put(GREY, -6e-8, 1.001).astype(np.float16),
    "one reaching nothing": 0.3 * GREY,
}
NOT_PLAIN = {
    "much rings": put(GREY, *RNG.uniform(-0.15, 0, 400)),
    "an outlier far below": put(GREY, -0.7),
    "signed, of no contrast": 0.2 * (2 * GREY - 1),
}


@pytest.mark.parametrize("name", LIKE_UNIT)
def test_a_little_outside_changes_no_range(name: str, tmp_path: Path) -> None:
    x = LIKE_UNIT[name]
    assert guessed(x) == UNIT
    dataset = train(tmp_path, x)
    expected = np.sort((np.clip(x.astype(np.float64), 0, 1) * 2 - 1).reshape(-1))
    np.testing.assert_allclose(pixels(dataset), expected, atol=1e-6)
    assert any("taken to have the range 0 … 1" in f.text for f in dataset.audit.said)
    outside = int(((x < 0) | (x > 1)).sum())
    told = [f.text for f in dataset.audit.of_kind("clipped")]
    assert bool(told) == bool(outside)
    assert not outside or f"{outside} value" in told[0]
    np.savez(tmp_path / "s.npz", x=x)
    given = read_arrays(tmp_path / "s.npz", SPEC, real=dataset.train.values().numpy())
    np.testing.assert_allclose(np.sort(given.x.reshape(-1)), expected, atol=1e-6)
    assert any("the range 0 … 1" in remark for remark in given.remarks)


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_what_is_not_plain_is_asked(name: str, tmp_path: Path) -> None:
    x = NOT_PLAIN[name]
    with pytest.raises(CallError, match=r"0 … 1 or −1 … 1; set data\.value_range"):
        train(tmp_path, x)
    said = train(tmp_path, x, value_range=(-1, 1))
    np.testing.assert_allclose(pixels(said), np.sort(x.reshape(-1)), atol=1e-6)
    np.savez(tmp_path / "said.npz", x=x, value_range=[-1.0, 1.0])
    np.testing.assert_allclose(read_arrays(tmp_path / "said.npz", SPEC).x, x, atol=1e-6)


@pytest.mark.parametrize("shape", [(60, 1, 8, 8), (60, 3, 2, 4, 5)])
def test_signed_pictures_and_clips_are_what_they_were(shape: tuple[int, ...], tmp_path: Path) -> None:
    x = RNG.uniform(-1, 1, shape).astype(np.float32)
    dataset = train(tmp_path, x, **({"layout": "NCTHW"} if len(shape) == 5 else {}))
    assert np.array_equal(pixels(dataset), np.sort(x.reshape(-1))), "to the last bit"
    spec = dataset.spec
    made = np.moveaxis(x, 1, 2) if len(shape) == 5 else x
    np.save(tmp_path / "s.npy", made)
    assert np.array_equal(read_arrays(tmp_path / "s.npy", spec, real=dataset.train.values().numpy()).x, made)
    # clips of 0 … 1 are no clips of −1 … 1 that happen to be bright
    np.save(tmp_path / "unit.npy", (made + 1) / 2)
    unit = read_arrays(tmp_path / "unit.npy", spec, real=dataset.train.values().numpy())
    np.testing.assert_allclose(unit.x, made, atol=1e-6)


def test_sound_is_signed_also_where_nothing_is_below_zero(tmp_path: Path) -> None:
    x = RNG.uniform(0, 0.5, (60, 32)).astype(np.float32)
    assert np.array_equal(pixels(train(tmp_path, x, modality="audio")), np.sort(x.reshape(-1)))
    loud = put(x, 1.02)
    dataset = train(tmp_path, loud, modality="audio")
    assert float(pixels(dataset).max()) == 1.0
    assert "1 value lies outside, by up to 0.02" in dataset.audit.of_kind("clipped")[0].text


def test_a_stated_range_has_slack_and_what_is_clipped_is_counted(tmp_path: Path) -> None:
    x = put(100 * GREY, -5.0, 104.0)
    dataset = train(tmp_path, x, value_range=(0, 100))
    assert (pixels(dataset).min(), pixels(dataset).max()) == (-1, 1)
    (found,) = dataset.audit.of_kind("clipped")
    assert "2 values lie outside, by up to 5" in found.text
    assert found.level == "note"
    many = train(tmp_path, 110 * GREY, value_range=(0, 100)).audit.of_kind("clipped")
    assert many[0].level == "warning", "one in ten is no rounding"
    with pytest.raises(CallError, match=r"outside data\.value_range"):
        train(tmp_path, put(x, 130.0), value_range=(0, 100))


class TestRealAndGeneratedAgree:
    DARK = np.clip(RNG.normal(-0.9, 0.05, (60, 1, 8, 8)), -1, 1).astype(np.float32)
    BRIGHT = np.clip(RNG.normal(0.7, 0.1, (60, 1, 8, 8)), 0.1, 1).astype(np.float32)
    WIDE = RNG.uniform(-1, 1, (60, 1, 8, 8)).astype(np.float32)

    def test_bright_samples_in_the_range_of_the_data_are_not_stretched_without_a_word(self) -> None:
        with pytest.raises(CallError, match=r"read as 0 … 1 they contradict the data, read as -1 … 1"):
            read_as(self.BRIGHT, [SIGNED, UNIT], self.BRIGHT, SIGNED, "it", "say it")

    def test_half_of_contrast_or_rings_are_told_by_the_data(self) -> None:
        rung = put((self.WIDE + 1) / 2, *RNG.uniform(-0.15, 0, 400).tolist()).astype(np.float32)
        assert read_as(rung, [SIGNED, UNIT], self.WIDE, SIGNED, "it", "say it") == UNIT
        with pytest.raises(CallError, match="may have the range -1 … 1 or 0 … 1; say it"):
            read_as(rung, [SIGNED, UNIT], None, SIGNED, "it", "say it")

    def test_dark_levels(self, tmp_path: Path) -> None:
        """0 … 16 of a file of 0 … 255 that is dark throughout are no 17 levels."""
        spec = DataSpec.of("image", (1, 8, 8), levels=17)
        np.save(tmp_path / "dark.npy", RNG.integers(0, 17, (60, 8, 8), dtype=np.uint8))
        with pytest.raises(CallError, match=r"read as 0 … 16 they contradict the data, read as 0 … 255"):
            read_arrays(tmp_path / "dark.npy", spec, real=self.DARK)
        assert "0 … 16" in read_arrays(tmp_path / "dark.npy", spec, real=self.WIDE).remarks[-1]

    def test_the_units_of_the_data_s_own_files(self, tmp_path: Path) -> None:
        x = (50 * (self.WIDE + 1)).astype(np.float32)
        np.save(tmp_path / "s.npy", x)
        given = read_arrays(tmp_path / "s.npy", SPEC, real=self.WIDE, units=(0, 100))
        np.testing.assert_allclose(given.x, self.WIDE, atol=1e-6)
        assert "the range 0 … 100" in given.remarks[-1]

    @pytest.mark.parametrize("kind", ["bool", "int16", "int64", "uint8"])
    def test_whole_numbers_are_levels(self, kind: str, tmp_path: Path) -> None:
        top = 1 if kind == "bool" else 255
        x = RNG.integers(0, top + 1, (60, 8, 8)).astype(kind)
        np.save(tmp_path / "s.npy", x)
        given = read_arrays(tmp_path / "s.npy", SPEC)
        np.testing.assert_allclose(given.x[:, 0], x / top * 2 - 1, atol=1e-6)
        assert f"{kind} is read as grey levels 0 … {top}" in given.remarks

    def test_resizing_comes_after_the_range(self, tmp_path: Path) -> None:
        """A black bar on white rings to −0.1 where it shrinks: it stays 0 … 1, and in its range."""
        x = np.ones((60, 20, 20), np.float32)
        x[:, 7:13] = 0
        np.save(tmp_path / "s.npy", x)
        np.save(tmp_path / "u.npy", (255 * x).astype(np.uint8))
        ours = read_arrays(tmp_path / "s.npy", SPEC, resize=True)
        assert (ours.x.min(), ours.x.max()) == (-1, 1)
        np.testing.assert_allclose(ours.x, read_arrays(tmp_path / "u.npy", SPEC, resize=True).x, atol=0.005)

    @pytest.mark.parametrize("bad", [[1.0, 0.0], [0.0], [0.0, np.nan], ["a", "b"]])
    def test_a_range_that_is_none(self, bad: Any, tmp_path: Path) -> None:
        np.savez(tmp_path / "s.npz", x=GREY, value_range=bad)
        with pytest.raises(CallError, match="value_range must"):
            read_arrays(tmp_path / "s.npz", SPEC)


@pytest.mark.parametrize("kind", ["int16", "int32", "int8"])
def test_whole_numbers_of_sound_are_shares_of_their_full_scale(kind: str, tmp_path: Path) -> None:
    full = -int(np.iinfo(kind).min)
    x = RNG.integers(-full, full, (60, 1, 40)).astype(kind)
    dataset = train(tmp_path, x, modality="audio")
    np.testing.assert_allclose(pixels(dataset), np.sort(x.reshape(-1) / full), atol=1e-6)
    assert f"full scale is {full}" in " ".join(f.text for f in dataset.audit.said)
    np.save(tmp_path / "s.npy", x)
    np.testing.assert_allclose(read_arrays(tmp_path / "s.npy", dataset.spec).x, x / full, atol=1e-6)


@pytest.mark.parametrize("kind", ["float32", "int16", "bool"])
def test_a_few_long_channels_are_series_whatever_they_are_kept_as(kind: str, tmp_path: Path) -> None:
    x = (RNG.normal(size=(60, 3, 64)) * 50).clip(0 if kind == "bool" else None).astype(kind)
    dataset = train(tmp_path, x)
    assert (dataset.spec.modality, dataset.spec.shape, dataset.spec.axes) == ("series", (3, 64), "CT")
    assert np.array_equal(pixels(dataset), np.sort(x.astype(np.float32).reshape(-1)))
    assert np.isinf(dataset.spec.high), "what they reach is no bound"
    said = " ".join(f.text for f in dataset.audit.said)
    assert "read as series (n, channels, time)" in said
    assert kind == "float32" or f"{kind} {int(x.min())} … {int(x.max())} is read as amounts" in said


def test_whoever_trains_is_told_what_was_assumed(tmp_path: Path) -> None:
    class Told:
        def __init__(self) -> None:
            self.notes: list[str] = []

        def stage(self, name: str, detail: str = "") -> None: ...
        def update(self, *_: Any) -> None: ...
        def note(self, text: str) -> None:
            self.notes.append(text)

    reporter = Told()
    EvaluationContext(torch, None, reporter=reporter).told(train(tmp_path, put(GREY, -1e-7)))  # type: ignore[arg-type]
    assert any("taken to have the range 0 … 1" in note for note in reporter.notes)
    assert any("1 value lies outside" in note for note in reporter.notes)


def test_clipping_leaves_what_lies_inside_and_what_is_no_number() -> None:
    x = np.array([[0.25, np.nan, -0.5, np.inf]], np.float32)
    found = clipped(x, UNIT)
    np.testing.assert_array_equal(found.values, [[0.25, np.nan, 0.0, np.inf]])
    assert (found.count, found.beyond) == (1, 0.5)

"""npy and npz: layouts, ranges, labels, and everything that must be refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import DataConfig, Dataset, load

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (60, 3, 5, 6), dtype=np.uint8)
VECTORS = RNG.normal(size=(60, 4)).astype(np.float32)
SERIES = (10 * RNG.normal(size=(60, 2, 24))).astype(np.float32)
CLIPS = RNG.integers(0, 256, (60, 5, 3, 6, 8), dtype=np.uint8)


def read(path: Path, x: np.ndarray | None = None, **settings: Any) -> Dataset:
    """Save `x` (and more arrays among the settings' numpy values) and load it."""
    arrays = {k: settings.pop(k) for k in list(settings) if isinstance(settings[k], np.ndarray)}
    if arrays:
        path = path / "a.npz"
        np.savez(path, **({"x": x} if x is not None else {}), **arrays)
    else:
        path = path / "a.npy"
        assert x is not None
        np.save(path, x)
    return load(DataConfig(source="arrays", path=str(path), **settings))


def together(dataset: Dataset) -> torch.Tensor:
    return torch.cat([s.x for s in dataset.splits.values()])


def same_rows(a: torch.Tensor, b: np.ndarray) -> bool:
    return sorted(r.tobytes() for r in a.numpy()) == sorted(r.tobytes() for r in np.ascontiguousarray(b))


class TestPictures:
    def test_nhwc_and_nchw_are_one_data_set(self, tmp_path: Path) -> None:
        first = read(tmp_path, PICTURES)
        last = read(tmp_path, PICTURES.transpose(0, 2, 3, 1))
        assert first.spec.shape == last.spec.shape == (3, 5, 6)
        assert all(torch.equal(first.splits[s].x, last.splits[s].x) for s in first.splits)
        assert "NCHW" in first.audit.of_kind("shapes")[0].text
        assert "NHWC" in last.audit.of_kind("shapes")[0].text

    def test_an_undecidable_layout_must_be_said(self, tmp_path: Path) -> None:
        both = PICTURES[:, :, :, :3]  # (60, 3, 5, 3)
        with pytest.raises(CallError, match=r"does not tell.*data\.layout=NCHW or NHWC"):
            read(tmp_path, both)
        assert read(tmp_path, both, layout="NCHW").spec.shape == (3, 5, 3)
        assert read(tmp_path, both, layout="NHWC").spec.shape == (3, 3, 5)
        assert read(tmp_path, both, layout="NHWC").audit.of_kind("shapes") == ()
        with pytest.raises(CallError, match="does not tell"):
            read(tmp_path, RNG.integers(0, 9, (60, 5, 5, 5), dtype=np.uint8))

    def test_three_dimensions_are_grey(self, tmp_path: Path) -> None:
        assert read(tmp_path, PICTURES[:, 0]).spec.shape == (1, 5, 6)

    def test_levels(self, tmp_path: Path) -> None:
        dataset = read(tmp_path, PICTURES % 17, levels=17)
        values = together(dataset).float() / 16 * 2 - 1
        assert torch.allclose(torch.cat([s.values() for s in dataset.splits.values()]), values)
        with pytest.raises(CallError, match=r"the value 16, outside 0 … 15, which data\.levels=16"):
            read(tmp_path, PICTURES % 17, levels=16)

    @pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0)])
    def test_float_pictures_reach_minus_one_to_one(self, tmp_path: Path, low: float, high: float) -> None:
        unit = PICTURES.astype(np.float64) / 255
        dataset = read(tmp_path, low + (high - low) * unit)
        assert dataset.train.x.dtype == torch.float32
        assert (together(dataset).min(), together(dataset).max()) == (-1, 1)
        assert f"{low:g} … {high:g}" in dataset.audit.of_kind("value range")[0].text

    def test_a_stated_range_is_stretched(self, tmp_path: Path) -> None:
        x = PICTURES.astype(np.float32) * 10
        with pytest.raises(CallError, match=r"set data\.value_range"):
            read(tmp_path, x)
        dataset = read(tmp_path, x, value_range=(0, 5100))
        assert same_rows(together(dataset), x / 5100 * 2 - 1)
        with pytest.raises(CallError, match=r"outside data\.value_range"):
            read(tmp_path, x, value_range=(0, 100))
        with pytest.raises(CallError, match="must rise"):
            read(tmp_path, x, value_range=(1, 1))


class TestVectors:
    def test_vectors_are_kept_bit_for_bit(self, tmp_path: Path) -> None:
        dataset = read(tmp_path, VECTORS)
        assert dataset.spec.modality == "vector"
        assert (dataset.spec.low, dataset.spec.high) == (-math.inf, math.inf), "what they reach is no bound"
        assert DataSpec.from_json(json.loads(json.dumps(dataset.spec.to_json()))) == dataset.spec
        assert same_rows(together(dataset), VECTORS)

    def test_not_finite_samples_are_set_aside_by_name(self, tmp_path: Path) -> None:
        x = VECTORS.copy()
        x[7, 1], x[31, 0] = np.nan, -np.inf
        dataset = read(tmp_path, x, y=np.arange(60) % 2)
        (found,) = dataset.audit.of_kind("not finite")
        assert found.level == "error"
        assert found.items == ("sample 7", "sample 31")
        assert same_rows(together(dataset), np.delete(VECTORS, [7, 31], 0))
        for split in dataset.splits.values():  # labels moved along with their samples
            assert split.y is not None
            for row, y in zip(split.x, split.y, strict=True):
                assert int(np.flatnonzero((row.numpy() == VECTORS).all(1))[0]) % 2 == y
        with pytest.raises(CallError, match="no finite value"):
            read(tmp_path, np.full((9, 2), np.nan))

    def test_names_survive_setting_aside(self, tmp_path: Path) -> None:
        x = VECTORS.copy()
        x[3] = np.nan
        x[50] = x[40]
        assert read(tmp_path, x).audit.of_kind("duplicates")[0].items == ("sample 40 = sample 50",)

    def test_one_sample_sixty_times_cannot_be_divided(self, tmp_path: Path) -> None:
        with pytest.raises(CallError, match=r"60 samples \(1 distinct\) are too few"):
            read(tmp_path, np.ones((60, 2), np.float32))


class TestSeriesAndVideos:
    def test_floats_of_few_long_channels_are_series_in_their_own_unit(self, tmp_path: Path) -> None:
        dataset = read(tmp_path, SERIES, rate=100.0)
        assert (dataset.spec.modality, dataset.spec.shape, dataset.spec.axes) == ("series", (2, 24), "CT")
        assert dataset.spec.x.rate == 100.0
        assert same_rows(together(dataset), SERIES)
        assert (dataset.spec.low, dataset.spec.high) == (-math.inf, math.inf)
        stretched = read(tmp_path, SERIES, value_range=(float(SERIES.min()) - 1, float(SERIES.max()) + 1))
        assert (stretched.spec.low, stretched.spec.high) == (-1.0, 1.0)
        assert "series (n, channels, time)" in dataset.audit.of_kind("shapes")[0].text

    def test_time_first_must_be_said(self, tmp_path: Path) -> None:
        turned = np.ascontiguousarray(SERIES.transpose(0, 2, 1))
        dataset = read(tmp_path, turned, layout="NTC")
        assert dataset.spec.shape == (2, 24)
        assert same_rows(together(dataset), SERIES)
        assert dataset.audit.of_kind("shapes") == ()
        assert read(tmp_path, SERIES / 100, modality="image").spec.shape == (1, 2, 24)

    def test_small_integers_and_squares_of_floats_stay_grey_images(self, tmp_path: Path) -> None:
        long = RNG.integers(0, 256, (60, 2, 24), dtype=np.uint8)
        assert read(tmp_path, long).spec.modality == "image"
        assert read(tmp_path, long, modality="series").spec.axes == "CT"
        square = RNG.uniform(size=(60, 7, 9)).astype(np.float32)
        assert read(tmp_path, square).spec.shape == (1, 7, 9)

    def test_two_axes_may_be_a_series_or_a_sound(self, tmp_path: Path) -> None:
        for modality in ("series", "audio"):
            dataset = read(tmp_path, VECTORS / 10, modality=modality)
            assert (dataset.spec.modality, dataset.spec.axes) == (modality, "T")

    def test_five_axes_are_videos(self, tmp_path: Path) -> None:
        first = read(tmp_path, CLIPS)
        assert (first.spec.modality, first.spec.shape, first.spec.axes) == ("video", (5, 3, 6, 8), "TCHW")
        assert "NTCHW" in first.audit.of_kind("shapes")[0].text
        for layout, axes in (("NCTHW", (0, 2, 1, 3, 4)), ("NTHWC", (0, 1, 3, 4, 2))):
            turned = np.ascontiguousarray(CLIPS.transpose(axes))
            for said in ({}, {"layout": layout}):
                other = read(tmp_path, turned, **said)
                assert all(torch.equal(first.splits[s].x, other.splits[s].x) for s in first.splits)


class TestLabels:
    def test_words_become_classes(self, tmp_path: Path) -> None:
        words = np.array(["pear", "apple"])[np.arange(60) % 2]
        dataset = read(tmp_path, VECTORS, y=words)
        assert dataset.spec.class_names == ("apple", "pear")
        assert dataset.train.y is not None
        row, y = dataset.train.x[0].numpy(), int(dataset.train.y[0])
        assert words[(row == VECTORS).all(1)][0] == dataset.spec.class_names[y]

    def test_a_gap_between_classes_is_found(self, tmp_path: Path) -> None:
        dataset = read(tmp_path, VECTORS, y=np.arange(60) % 2 * 2)
        assert dataset.spec.classes == 3
        assert {f.items for f in dataset.audit.of_kind("class balance")} == {("1",)}

    def test_other_names(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "b.npz", data=VECTORS, kind=np.arange(60) % 2)
        dataset = load(DataConfig(source="arrays", path=str(tmp_path / "b.npz"), x="data", y="kind"))
        assert dataset.spec.classes == 2

    @pytest.mark.parametrize(
        ("y", "message"),
        [
            (np.arange(59), r"need labels of the shape \(60,\), not \(59,\)"),
            (np.arange(60) - 1, "labels must lie in 0 … 9999, not -1 … 58"),
            (np.arange(60) + 0.5, "whole numbers or words"),
            (np.zeros(60, complex), "whole numbers or words"),
        ],
    )
    def test_labels_that_do_not_fit(self, tmp_path: Path, y: np.ndarray, message: str) -> None:
        with pytest.raises(CallError, match=message):
            read(tmp_path, VECTORS, y=y)

    def test_labels_that_are_asked_for(self, tmp_path: Path) -> None:
        with pytest.raises(CallError, match=r"data\.labels is true"):
            read(tmp_path, VECTORS, labels=True)


class TestRefusals:
    def test_python_objects_are_never_unpickled(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "sprung",))

        objects = np.empty(60, dtype=object)
        objects[:] = Trap()
        np.save(tmp_path / "a.npy", objects, allow_pickle=True)
        np.savez(tmp_path / "a.npz", x=objects)
        (tmp_path / "plain.npy").write_bytes(b"\x80\x04\x95 not an array")
        for name in ("a.npy", "a.npz", "plain.npy"):
            with pytest.raises(CallError, match="holds Python objects or is no npy"):
                load(DataConfig(source="arrays", path=str(tmp_path / name)))
        assert not (tmp_path / "sprung").exists()

    def test_missing_and_broken_files(self, tmp_path: Path) -> None:
        def config(name: str) -> DataConfig:
            return DataConfig(source="arrays", path=str(tmp_path / name))

        with pytest.raises(CallError, match="does not exist"):
            load(config("none.npy"))
        with pytest.raises(CallError, match="is not a file"):
            load(config(""))
        np.savez(tmp_path / "a.npz", x=VECTORS)
        whole = (tmp_path / "a.npz").read_bytes()
        (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
        np.save(tmp_path / "a.npy", VECTORS)
        (tmp_path / "cut.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:300])
        (tmp_path / "empty.npy").write_bytes(b"")
        for name in ("cut.npz", "cut.npy", "empty.npy"):
            with pytest.raises(CallError, match=name):
                load(config(name))

    def test_a_missing_key_names_the_nearest(self, tmp_path: Path) -> None:
        with pytest.raises(CallError, match=r"no array 'x' \(data\.x\); valid names: images, targets"):
            read(tmp_path, None, images=VECTORS, targets=np.arange(60))

    @pytest.mark.parametrize(
        ("x", "settings", "message"),
        [
            (VECTORS.astype(np.complex64), {}, "complex64; save samples as whole numbers or as float32"),
            (VECTORS.astype("S4"), {}, "S4; save samples as whole numbers or as float32"),
            (VECTORS[:, 0], {}, r"not \(60,\)"),
            (VECTORS[:0], {}, "not empty"),
            (VECTORS.reshape(60, 1, 1, 1, 1, 4), {}, "6 axes are too many"),
            (VECTORS, {"layout": "NCHW"}, r"data\.layout=NCHW has 4 axes"),
            (VECTORS, {"modality": "video"}, r"data\.modality=video needs \(N, T, C, H, W\)"),
            (SERIES, {"layout": "NCT", "modality": "image"}, r"is not of image samples, which are NHW"),
            (SERIES.transpose(0, 2, 1), {}, r"does not tell what it is; set data\.modality=image, or .*NTC"),
            (np.zeros((60, 2, 2, 5, 5), np.uint8), {}, r"data\.layout=NTCHW, NCTHW or NTHWC"),
            (PICTURES, {"value_range": (0, 1)}, r"for uint8 set data\.levels"),
        ],
    )
    def test_samples_that_do_not_fit(
        self, tmp_path: Path, x: np.ndarray, settings: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(CallError, match=message):
            read(tmp_path, x, **settings)


@pytest.mark.parametrize("kind", ["int64", "int32", "uint16", "int16"])
def test_whole_numbers_of_two_axes_are_tokens(kind: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 12, (60, 16)).astype(kind)
    np.savez(tmp_path / "notes.npz", x=x, y=np.arange(60) % 3)
    made = load(DataConfig(source="arrays", path=str(tmp_path / "notes.npz")))
    assert (made.spec.modality, made.spec.shape, made.spec.axes) == ("text", (16,), "T")
    assert made.spec.is_tokens
    assert made.spec.levels == int(x.max()) + 1
    assert made.spec.classes == 3
    assert made.spec.x.values.tokenizer == ""
    assert made.train.x.dtype == torch.int64
    assert any("is read as sequences of tokens" in f.text for f in made.audit.findings)
    said = load(DataConfig(source="arrays", path=str(tmp_path / "notes.npz"), vocabulary=20))
    assert said.spec.levels == 20
    with pytest.raises(CallError, match=r"tokens 0 … 11, outside 0 … 8, which data.vocabulary=9 allows"):
        load(DataConfig(source="arrays", path=str(tmp_path / "notes.npz"), vocabulary=9))
    amounts = load(DataConfig(source="arrays", path=str(tmp_path / "notes.npz"), modality="vector"))
    assert not amounts.spec.is_tokens


def test_bytes_are_tokens_where_that_is_said_and_amounts_never_are(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", np.random.default_rng(0).integers(0, 9, (60, 16), dtype=np.uint8))
    made = load(DataConfig(source="arrays", path=str(tmp_path / "b.npy"), modality="text"))
    assert made.spec.levels == 9
    np.save(tmp_path / "f.npy", np.random.default_rng(0).normal(size=(60, 16)))
    np.save(tmp_path / "m.npy", np.full((60, 16), -1))
    for name, sentence in (("f.npy", "tokens are whole numbers"), ("m.npy", "tokens -1 … -1, outside 0")):
        with pytest.raises(CallError, match=sentence):
            load(DataConfig(source="arrays", path=str(tmp_path / name), modality="text"))


@pytest.mark.parametrize("kind", ["bool", "int16", "int64", "uint32"])
def test_pictures_of_whole_numbers_are_grey_levels(kind: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 2 if kind == "bool" else 256, (60, 8, 8))
    np.save(tmp_path / "x.npy", x.astype(kind))
    made = load(DataConfig(source="arrays", path=str(tmp_path / "x.npy"), modality="image"))
    assert made.spec.modality == "image"
    assert made.train.x.dtype == torch.uint8
    assert any(f"{kind} 0 … {x.max()} is read as grey levels" in f.text for f in made.audit.findings)
    np.save(tmp_path / "wide.npy", x.astype(np.int64) * 300)
    with pytest.raises(CallError, match=r"set data.value_range"):
        load(DataConfig(source="arrays", path=str(tmp_path / "wide.npy"), modality="image"))

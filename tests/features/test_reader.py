"""The reader: every column of labels read back from a sample, by one network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from features.toys import toy

from niwaki.core.contract import CallError, DataSpec, Levels, Real, Tokens, ValueSpec
from niwaki.data import Column, DataConfig, Dataset, Split, load
from niwaki.features import fitting, reader
from niwaki.features.reader import ALL, ReaderNetwork, label_columns, train_reader

SIDE, SHADE = ValueSpec.label(2, ("left", "right")), ValueSpec.label(3, ("dark", "grey", "light"))


def split(n: int, seed: int) -> Split:
    """Noise, and a square on one side in one of three shades."""
    rng = np.random.default_rng(seed)
    side, shade = rng.integers(2, size=n), rng.integers(3, size=n)
    x = rng.integers(0, 30, (n, 1, 8, 8))
    for i in range(n):
        x[i, 0, 2:6, 4 * side[i] : 4 * side[i] + 4] += 60 * (shade[i] + 1)
    spec = ValueSpec("image", (1, 8, 8), None, Levels(256))
    labels = {"side": Column(SIDE, torch.from_numpy(side)), "shade": Column(SHADE, torch.from_numpy(shade))}
    return Split({"x": Column(spec, torch.from_numpy(x.astype(np.uint8))), **labels})


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    parts = [split(n, seed) for seed, n in enumerate((600, 100, 200))]
    return Dataset("squares", parts[0].spec, *parts, extra={"more": split(50, 9)}, fingerprint="2" * 64)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_steps", lambda samples: 40)
    monkeypatch.setattr(reader, "_BATCH", 32)


def test_it_reads_every_column(dataset: Dataset, cache: Path) -> None:
    read = train_reader(dataset, cache=cache)
    assert read.names == ("side", "shade")
    assert set(read.accuracy) == {"train", "validation", "test", "more"}
    assert min(read.accuracy["test"].values()) > 0.97
    answers = read(dataset.test.values())
    hits = [answers[name] == dataset.test.columns[name].data.numpy() for name in read.names]
    assert [float(hit.mean()) for hit in hits] == [read.accuracy["test"][name] for name in read.names]
    assert read.accuracy["test"][ALL] == float((hits[0] & hits[1]).mean())


def test_from_the_cache_it_comes_without_training(
    dataset: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train_reader(dataset, cache=cache)

    def refuse(*_: Any) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr(fitting, "_fit", refuse)
    again = train_reader(dataset, cache=cache)
    assert (again.fingerprint, again.accuracy) == (first.fingerprint, first.accuracy)
    with pytest.raises(AssertionError, match="trained again"):
        train_reader(dataset, cache=cache, seed=1)


def test_columns_of_labels_are_paired_and_have_several_values() -> None:
    columns = {
        "x": ValueSpec("vector", (4,), "C", Real(0, 1)),
        "class": ValueSpec.label(3),
        "only": ValueSpec.label(1),
        "caption": ValueSpec("text", (3,), "T", Tokens(9)),
        "class_b": ValueSpec.label(3),
        "colour": ValueSpec.label(2),
    }
    assert label_columns(DataSpec(columns, ("class_b",))) == ("class", "colour")


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 40), (6,), (4, 1, 8, 8), "text"])
def test_it_is_built_for_every_kind_of_data(shape: Any) -> None:
    data = toy(shape, 8)
    network = ReaderNetwork(data.spec)
    assert network(data.train.values()).shape == (len(data.train), data.spec.classes)


def test_data_without_labels_are_refused(dataset: Dataset) -> None:
    with pytest.raises(CallError, match="a column of labels"):
        ReaderNetwork(DataSpec({"x": dataset.spec.x}))


@pytest.mark.slow
def test_it_reads_glyph_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_BATCH", 128)
    monkeypatch.setattr(reader, "_steps", lambda samples: 400)
    data = load(DataConfig(source="glyph-pages", samples=4000, characters="AHXO8"))
    assert min(train_reader(data).accuracy["test"].values()) > 0.9

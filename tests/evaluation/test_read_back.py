"""What was asked for is read back from samples, attribute by attribute."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.toy_runners import Toy, one_shot
from evaluation.vectors import Identity

from niwaki.core.contract import DataSpec, Real, Tokens, ValueSpec
from niwaki.data import Column, Dataset, Split
from niwaki.evaluation.judges import Tools
from niwaki.evaluation.judges.read_back import told_columns
from niwaki.evaluation.judges.samples import Samples
from niwaki.features import reader
from niwaki.report.record import measures

X = ValueSpec("vector", (6,), "C", Real(-20.0, 20.0))
CLASS, COLOUR = ValueSpec.label(4), ValueSpec.label(3)
CAPTION = ValueSpec("text", (2,), "T", Tokens(7))
PLACES = 6 * np.random.default_rng(0).normal(size=(7, 6))


def shown(caption: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """The sample of a caption: a class 0 … 3 and a colour 4 … 6."""
    return (PLACES[caption].sum(1) + 0.3 * noise).astype(np.float32)


def split(n: int, seed: int, new: bool = False) -> Split:
    """new: only class 0 in colour 0, which others never are"""
    rng = np.random.default_rng(seed)
    one, other = rng.integers(4, size=n), rng.integers(3, size=n)
    other = np.where(one == 0, 0 if new else 1 + other % 2, other)
    one = np.zeros(n, np.int64) if new else one
    caption = np.stack([one, 4 + np.where(new, 0, other)], 1)
    x = shown(caption, rng.normal(size=(n, 6)))
    return Split(
        {
            "x": Column(X, torch.from_numpy(x)),
            "class": Column(CLASS, torch.from_numpy(one)),
            "colour": Column(COLOUR, torch.from_numpy(caption[:, 1] - 4)),
            "caption": Column(CAPTION, torch.from_numpy(caption)),
        }
    )


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    parts = [split(n, seed) for seed, n in enumerate((500, 200, 300))]
    new = split(160, 9, new=True)
    return Dataset("captions", parts[0].spec, *parts, extra={"new_pairs": new}, fingerprint="3" * 64)


def model(wrong: float = 0.0, **inputs: ValueSpec) -> Toy:
    """Shows the class that was asked for, and in a share of the samples another colour."""

    def make(z: np.ndarray, caption: np.ndarray, *_: Any) -> np.ndarray:
        caption = caption.copy()
        odd = np.arange(len(caption)) % 10 < 10 * wrong
        caption[odd, 1] = 4 + (caption[odd, 1] - 3) % 3
        return shown(caption, z)

    made = Toy({}, {"make": make})
    made._programs["sample"] = one_shot("make", X, (6,), **(inputs or {"caption": CAPTION}))
    return made


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Samples:
    monkeypatch.setattr(reader, "_steps", lambda samples: 150)
    fit = {"3" * 64: {"identity": {"fit": True}}}
    return Samples(Tools(lambda: [Identity()], ("frechet",), fitness=fit))


def test_each_attribute_is_read_back(dataset: Dataset, judge: Samples) -> None:
    evidence = judge.evidence(model(wrong=0.3), dataset, "test", 300, 0)
    assert evidence.facts["told"] == ["class", "colour"]
    section = judge.evaluate(evidence, dataset)
    figures = {f.name: f for f in section.figures if "read back" in f.name}
    names = ("class", "colour", "everything")
    assert list(figures) == [f"{n} read back as asked{w}" for w in ("", " (new pairs)") for n in names]
    assert figures["class read back as asked"].value > 0.97
    assert figures["colour read back as asked"].value == pytest.approx(0.7, abs=0.03)
    assert figures["everything read back as asked"].value == pytest.approx(0.7, abs=0.03)
    for figure in figures.values():
        assert figure.interval is not None
        assert figure.interval[0] <= figure.value <= figure.interval[1]
        assert figure.better == "higher"
        assert figure.reference > 0.95, "real samples stand beside"
    metrics = section.details["evaluation"]["reader, new pairs"]
    assert set(metrics) == {f"{name}_read_back" for name in names}
    assert metrics["colour_read_back"]["n"] == [160, 160]
    assert metrics["colour_read_back"]["value"] == figures["colour read back as asked (new pairs)"].value
    shown = {m.where: not m.by_class for m in measures(section.details["evaluation"]) if "read" in m.metric}
    assert shown == {"reader": True, "reader, new pairs": True}
    json.dumps(section.to_json(), allow_nan=False)


def test_samples_for_extra_splits_are_asked_for_by_their_rows(dataset: Dataset, judge: Samples) -> None:
    evidence = judge.evidence(model(), dataset, "test", 50, 0)
    asked = dataset.extra["new_pairs"].columns["caption"].data[:50].numpy()
    expected = model().sample(50, seed=0, condition={"caption": asked})
    np.testing.assert_array_equal(evidence.arrays["samples.new_pairs"], expected)
    assert not [k for k in judge.evidence(model(), dataset, "validation", 50, 0).arrays if "new" in k]


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"caption": CAPTION}, ("class", "colour")),
        ({"class": CLASS}, ()),  # a classifier says that
        ({"colour": COLOUR}, ("colour",)),
        ({"class": CLASS, "colour": COLOUR}, ("class", "colour")),
        ({"strength": ValueSpec("vector", (1,), "C", Real(0.0, 1.0))}, ()),
        ({}, ()),
    ],
)
def test_what_the_inputs_tell(dataset: Dataset, inputs: dict[str, ValueSpec], told: tuple[str, ...]) -> None:
    assert told_columns(one_shot("make", X, (6,), **inputs), dataset) == told


def test_without_further_labels_there_is_nothing_to_read(dataset: Dataset) -> None:
    spec = DataSpec({k: v for k, v in dataset.spec.columns.items() if k != "colour"})
    parts = (
        Split({k: p.columns[k] for k in spec}) for p in (dataset.train, dataset.validation, dataset.test)
    )
    fewer = Dataset("fewer", spec, *parts, fingerprint="4" * 64)
    assert told_columns(model().program("sample"), fewer) == ()

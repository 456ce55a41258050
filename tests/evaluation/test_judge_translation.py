"""The judge `translation`, on vectors: three of their dimensions are the class, the fourth is the style."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.toy_runners import Toy, one_shot

from niwaki.core.contract import DataSpec, Real, ValueSpec
from niwaki.data import Dataset, Split
from niwaki.evaluation.judges import Margins, Tools, judges_for
from niwaki.evaluation.judges.translation import Translation
from niwaki.evaluation.statistics.result import wilson
from niwaki.features import classifier

X = ValueSpec("vector", (4,), "C", Real(-10.0, 10.0))
CLASS = ValueSpec.label(3)
STYLE = np.array([0, 0, 0, 4], np.float32)


def domain(n: int, seed: int, style: float) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng([seed, 8])
    y = rng.integers(0, 3, n)
    x = 4 * np.eye(4)[y] + 0.3 * rng.normal(size=(n, 4)) + style * STYLE
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(y)


def data(fingerprint: str, labelled: bool = True) -> Dataset:
    columns = {"x": X, "x_b": X, "class": CLASS} | ({"class_b": CLASS} if labelled else {})
    spec = DataSpec(columns, ("x_b", "class_b") if labelled else ("x_b",))
    parts = []
    for n, m, seed in ((300, 260, 1), (120, 100, 2), (160, 140, 3)):
        (a, y), (b, of_b) = domain(n, seed, 0.0), domain(m, seed + 10, 1.0)
        parts.append(Split.of(spec, a, y, x_b=b, **({"class_b": of_b} if labelled else {})))
    return Dataset("styles", spec, *parts, fingerprint=fingerprint)


@pytest.fixture(scope="module")
def dataset(short_training: None) -> Dataset:
    return data("8" * 64)


@pytest.fixture(scope="module")
def short_training() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classifier, "_steps", lambda n: 60)
        yield


def translator(amount: float = 1.0, same: bool = False) -> Toy:
    """amount: of the style that is added; same: everything becomes class 0."""

    def content(x: np.ndarray) -> np.ndarray:
        return np.tile(np.float32([4, 0, 0, 0]), (len(x), 1)) if same else x * np.float32([1, 1, 1, 0])

    programs = {
        "sample": one_shot("ab", X, x=X),
        "translate_ab": one_shot("ab", X, x=X),
        "translate_ba": one_shot("ba", X, x_b=X),
    }
    return Toy(programs, {"ab": lambda x: content(x) + amount * STYLE, "ba": lambda x: content(x)})


def judge() -> Translation:
    return Translation(Tools(list))


def test_a_translator_that_knows_the_style_keeps_the_class(dataset: Dataset) -> None:
    assert "translation" in [j.name for j in judges_for(translator(), dataset, Tools(list))]
    evidence = judge().evidence(translator(), dataset, "test", 1000, 0)
    assert len(evidence.arrays["translate_ab"]) == 160
    assert len(evidence.arrays["translate_ba"]) == 140
    section = judge().evaluate(evidence, dataset)
    shares = {f.name: f for f in section.figures}
    for name in ("translate_ab", "translate_ba"):
        assert shares[f"{name}: share taken for the target domain"].value > 0.98
        assert shares[f"{name}: share read as the class of the input"].value > 0.98
    found = shares["translate_ab: share taken for the target domain"]
    assert found.interval == wilson(round(160 * found.value), 160)
    # The way back takes nothing but the style's own noise.
    x = dataset.test.values().numpy()
    there = np.abs(x * np.float32([1, 1, 1, 0]) - x).mean()
    assert shares["translate_ab: cycle error"].value == pytest.approx(there, rel=1e-5)
    labels = [m["label"] for m in section.details["exhibits"][0]["media"]]
    assert labels == ["input", "translated"]
    assert section.details["translate_ab"]["input_taken_for_target"] < 0.05
    json.dumps(section.to_json(), allow_nan=False)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_shares_stand_beside_those_of_the_real_samples_they_are_judged_by(
    split: str, dataset: Dataset
) -> None:
    one = judge()
    style, content = one.classifiers.style(dataset), one.classifiers.content(dataset)
    assert content is not None
    style.accuracy.update(validation=0.91, test=0.92)
    content.accuracy.update(validation=0.81, test=0.82)
    figures = one.evaluate(one.evidence(translator(), dataset, split, 1000, 0), dataset).figures
    found = {of.name.partition(": ")[2]: of.reference for of in figures if of.reference is not None}
    assert found == {
        "share taken for the target domain": style.accuracy[split],
        "share read as the class of the input": content.accuracy[split],
    }


def test_planted_damage_is_found_on_its_own_axis(dataset: Dataset) -> None:
    one, good = judge(), translator()
    margins = one.margins(one.evidence(good, dataset, "validation", 1000, 0), dataset, 300)
    margins = Margins.from_json(json.loads(json.dumps(margins.to_json())))
    # All are told rightly and no input is: 5 % of everything. By chance a third of others have the class.
    assert margins.axes["fidelity"]["value"] == pytest.approx(0.05, abs=0.003)
    assert margins.axes["diversity"]["value"] == pytest.approx(0.05 * 2 / 3, abs=0.008)
    before = one.evidence(good, dataset, "test", 1000, 0)
    same = one.compare(before, one.evidence(translator(), dataset, "test", 1000, 0), margins, dataset)
    assert {v.outcome for v in same.axes.values()} == {"no loss"}
    assert not same.arrays["moved"].any()
    weak = one.compare(before, one.evidence(translator(0.0), dataset, "test", 1000, 0), margins, dataset)
    assert weak.axes["fidelity"].outcome == "loss"
    assert weak.axes["diversity"].outcome == "no loss"
    one_class = translator(same=True)
    poor = one.compare(before, one.evidence(one_class, dataset, "test", 1000, 0), margins, dataset)
    assert poor.axes["diversity"].outcome == "loss"
    assert poor.axes["fidelity"].outcome == "no loss"
    json.dumps(poor.to_json(), allow_nan=False)


def test_without_classes_of_both_domains_only_the_style_is_judged(dataset: Dataset) -> None:
    bare, one = data("9" * 64, labelled=False), judge()
    evidence = one.evidence(translator(), bare, "test", 1000, 0)
    section = one.evaluate(evidence, bare)
    assert section.notes
    margins = one.margins(one.evidence(translator(), bare, "validation", 1000, 0), bare, 300)
    assert set(margins.axes) == {"fidelity"}
    assert set(one.compare(evidence, evidence, margins, bare).axes) == {"fidelity"}


def test_what_leads_to_no_other_domain_is_no_translation(dataset: Dataset) -> None:
    loose = Toy({"sample": one_shot("ab", X, x=X), "restore": one_shot("ab", X, x=X)}, {"ab": lambda x: x})
    assert not Translation.applies(loose, dataset)

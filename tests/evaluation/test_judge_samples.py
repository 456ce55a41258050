"""The judge `samples`, on vectors with known modes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.toy_runners import Toy, one_shot
from evaluation.vectors import Identity, vector_dataset

from niwaki.core.contract import CallError, DataSpec, Real, Tokens, ValueSpec
from niwaki.data import Column, Dataset, Split
from niwaki.evaluation import evaluate
from niwaki.evaluation.judges import Margins, Tools, judges_for
from niwaki.evaluation.judges.samples import Samples
from niwaki.evaluation.judges.smoothness import smoothness
from niwaki.evaluation.judges.views import answered_column, dataset_of
from niwaki.evaluation.measures import check_metrics

CENTRES = 8 * np.random.default_rng(0).normal(size=(16, 6))
X = ValueSpec("vector", (6,), "C", Real(-20.0, 20.0))
CLASS = ValueSpec.label(16)


@pytest.fixture(scope="module")
def dataset() -> Any:
    return vector_dataset(np.random.default_rng(1), CENTRES, (400, 200, 400))


def model(drop: int | None = None, noise: float = 1.0) -> Toy:
    def make(z: np.ndarray, label: np.ndarray) -> np.ndarray:
        label = np.where(label == drop, 0, label)
        return (CENTRES[label] + noise * z).astype(np.float32)

    made = Toy({"sample": one_shot("make", X, (6,))}, {"make": make})
    made._programs["sample"] = one_shot("make", X, (6,), **{"class": CLASS})
    return made


def judge(*metrics: str) -> Samples:
    fit = {"1" * 64: {"identity": {"fit": True}}}  # ladders take seconds, and say nothing here
    return Samples(Tools(lambda: [Identity()], metrics or ("frechet", "coverage"), fitness=fit))


def test_it_applies_and_asks_for_the_split_s_classes(dataset: Any) -> None:
    found = judges_for(model(), dataset, Tools(lambda: [Identity()]))
    assert [j.name for j in found] == ["samples"]
    evidence = judge().evidence(model(), dataset, "test", 300, 0)
    assert (evidence.arrays["labels"] == dataset.test.y[:300].numpy()).all()
    direct = model().sample(300, seed=0, condition={"class": evidence.arrays["labels"]})
    np.testing.assert_array_equal(evidence.arrays["samples"], direct)


def test_a_section_is_the_evaluation_with_its_findings(dataset: Any) -> None:
    evidence = judge().evidence(model(), dataset, "test", 300, 0)
    section = judge().evaluate(evidence, dataset)
    arrays = evidence.arrays
    plain = evaluate(arrays["samples"], arrays["labels"], dataset, [Identity()], metrics=("frechet",))
    figure = next(f for f in section.figures if f.name == "frechet (identity)")
    assert figure.value == plain.metrics["identity"]["frechet"].value
    assert figure.reference == plain.metrics["identity"]["frechet"].floor
    assert {"evaluation", "clusters", "bias", "gate", "modes", "extractors"} <= set(section.details)
    train = dataset.train.values().numpy()
    np.testing.assert_array_equal(section.arrays["nearest"], train[plain.copies.index])
    json.dumps(section.to_json(), allow_nan=False)


def test_the_same_samples_lose_nothing_and_a_lost_class_costs_diversity(dataset: Any) -> None:
    one = judge()
    before = one.evidence(model(), dataset, one.calibrates, 400, 0)
    margins = one.margins(before, dataset, 400)
    kept = Margins.from_json(json.loads(json.dumps(margins.to_json())))
    assert kept == margins
    assert kept.key == one.margins_key(before, dataset)
    same = one.compare(before, one.evidence(model(), dataset, "test", 400, 0), kept, dataset)
    assert {v.outcome for v in same.axes.values()} == {"no loss"}
    assert (same.arrays["damage"] == 0).all()
    after = one.evidence(model(drop=2), dataset, "test", 400, 0)
    lost = one.compare(before, after, kept, dataset)
    assert lost.axes["diversity"].outcome == "loss"
    assert lost.axes["fidelity"].outcome != "loss"
    moved = np.flatnonzero(lost.arrays["damage"])
    assert set(before.arrays["labels"][moved]) == {2}
    record = json.loads(json.dumps(lost.to_json(), allow_nan=False))
    assert record["axes"]["diversity"]["judge"] == "samples"
    noisy = one.compare(before, one.evidence(model(noise=4.0), dataset, "test", 400, 0), kept, dataset)
    assert noisy.axes["fidelity"].outcome == "loss"


def test_other_seeds_are_not_paired(dataset: Any) -> None:
    one = judge()
    before = one.evidence(model(), dataset, "test", 400, 0)
    after = one.evidence(model(), dataset, "test", 400, 1)
    found = one.compare(before, after, one.margins(before, dataset, 400), dataset)
    assert not found.axes["fidelity"].paired
    assert not found.arrays


def test_metrics_that_need_the_model_or_its_classes(dataset: Any) -> None:
    one = judge("frechet", "path_length", "train_on_synthetic")
    section = one.evaluate(one.evidence(model(), dataset, "test", 200, 0), dataset)
    by_name = {f.name: f for f in section.figures}
    # g(z) = centre + z, so that ‖dg‖²/ε² is that of the way itself.
    assert by_name["perceptual path length"].value > 1.0
    accuracy = by_name["accuracy on real samples of a classifier trained on generated ones"]
    assert accuracy.value > 0.98
    assert accuracy.reference is not None
    assert check_metrics(("path_length",)) == ("path_length",)
    with pytest.raises(CallError, match="needs the model itself"):
        evaluate(np.zeros((60, 6)), None, dataset, [Identity()], metrics=("path_length",))


def test_path_length_of_a_linear_map_is_that_of_the_way() -> None:
    """g(z) = A z with orthogonal columns of length 3: distances are 3 times those of the latents."""
    linear = Toy({"sample": one_shot("make", X, (6,))}, {"make": lambda z: 3.0 * z})
    plain = Toy({"sample": one_shot("make", X, (6,))}, {"make": lambda z: z})
    a, b = (smoothness(m, "sample", {}, paths=64) for m in (linear, plain))
    assert a is not None
    assert b is not None
    assert a.value == pytest.approx(9 * b.value, rel=1e-2)
    none = Toy({"sample": one_shot("make", X, **{"class": CLASS})}, {"make": lambda c: CENTRES[c]})
    assert smoothness(none, "sample", {}, paths=8) is None


def test_a_translator_is_judged_by_the_other_domain() -> None:
    rng = np.random.default_rng(0)
    spec = DataSpec({"x": X, "x_b": X, "class_b": CLASS}, ("x_b", "class_b"))

    def split(n: int, m: int) -> Split:
        x, y = rng.normal(size=(n, 6)), rng.integers(0, 16, m)
        b = torch.from_numpy((CENTRES[y] + rng.normal(size=(m, 6))).astype(np.float32))
        return Split.of(spec, torch.from_numpy(x.astype(np.float32)), x_b=b, class_b=torch.from_numpy(y))

    data = Dataset("two", spec, split(300, 250), split(100, 120), split(200, 220), fingerprint="2" * 64)
    program = one_shot("ab", X, x=X)
    runner = Toy({"sample": program}, {"ab": lambda x: x + CENTRES[0].astype(np.float32)})
    assert answered_column(program, data) == "x_b"
    view = dataset_of(data, "x_b")
    assert view.spec.classes == 16
    assert torch.equal(view.test.x, data.test.column("x_b").data)
    assert view.fingerprint != data.fingerprint
    one = judge()
    evidence = one.evidence(runner, data, "test", 200, 0)
    assert "labels" not in evidence.arrays
    # Only one of the sixteen modes of the second domain is made.
    figures = {f.name: f.value for f in one.evaluate(evidence, data).figures}
    assert figures["coverage (identity)"] < 0.4


def test_who_is_given_a_caption_has_to_show_what_its_row_shows(dataset: Any) -> None:
    """The class of the row is the truth where the row's caption is what was asked, and not its class."""
    text = ValueSpec("text", (2,), "T", Tokens(16))

    def captioned(split: Split) -> Split:
        words = torch.stack([split.y, (split.y + 1) % 16], 1)
        return Split({**split.columns, "caption": Column(text, words)})

    spec = DataSpec({**dataset.spec.columns, "caption": text})
    data = Dataset("captioned", spec, *map(captioned, (dataset.train, dataset.validation, dataset.test)))

    def make(z: np.ndarray, words: np.ndarray) -> np.ndarray:
        return (CENTRES[words[:, 0]] + z).astype(np.float32)

    runner = Toy({"sample": one_shot("make", X, (6,), caption=text)}, {"make": make})
    n = len(data.test) + 30
    evidence = judge().evidence(runner, data, "test", n, 0)
    expected = dataset.test.y.numpy()[np.arange(n) % len(data.test)]
    np.testing.assert_array_equal(evidence.arrays["labels"], expected)
    free = Toy({"sample": one_shot("make", X, (6,))}, {"make": lambda z: z})
    assert "labels" not in judge().evidence(free, data, "test", 50, 0).arrays

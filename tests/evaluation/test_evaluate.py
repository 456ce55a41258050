from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from evaluation.vectors import Identity, vector_dataset

from niwaki.core.contract import CallError
from niwaki.core.store import jsonable
from niwaki.evaluation import evaluate, frechet_distance
from niwaki.evaluation.statistics.samples import drawn_alike


@pytest.fixture(scope="module")
def good(digits: Any) -> Any:
    return evaluate(digits.samples, digits.labels, digits.dataset, digits.extractors)


def test_every_number_stands_beside_the_training_splits(good: Any, digits: Any) -> None:
    for extractor in digits.extractors:
        for name, result in good.metrics[extractor.name].items():
            assert result.floor is not None, name
            assert result.n == (len(digits.dataset.test), 800)
    extractor = digits.extractors[1]
    order = drawn_alike(digits.dataset, digits.labels, 800, 0)
    train = extractor(digits.dataset.train.values().numpy()[order])
    real = extractor(digits.dataset.test.values())
    expected = frechet_distance(real, train).value
    assert good.metrics["random"]["frechet"].floor == pytest.approx(expected, rel=1e-5)


def test_a_good_generator_scores_as_the_training_split_does(good: Any) -> None:
    for found in good.metrics.values():
        assert found["frechet"].value < 2 * found["frechet"].floor
        assert found["coverage"].value > 0.9 * found["coverage"].floor
    assert good.metrics["classifier"]["recognised"].value > 0.95


def test_a_dropped_class_shows_in_its_own_coverage(digits: Any) -> None:
    keep = digits.labels != 6
    found = evaluate(digits.samples[keep], digits.labels[keep], digits.dataset, digits.extractors)
    shares = {c: r["coverage"]["classifier"] for c, r in found.per_class.items()}
    assert min(shares, key=shares.__getitem__) == "6"
    assert shares["6"] < 0.3
    assert found.per_class["6"]["generated"] == 0
    assert all(v > 0.8 for c, v in shares.items() if c != "6")


def test_copies_of_the_training_set_are_called_copies(digits: Any, good: Any) -> None:
    train = digits.dataset.train
    copied = evaluate(train.values()[:300], train.y[:300], digits.dataset, digits.extractors)
    assert copied.copies.close.value == 1
    assert copied.copies.identical == 300
    np.testing.assert_array_equal(copied.copies.index[:20], np.arange(20))
    fresh = evaluate(digits.dataset.validation.values(), None, digits.dataset, digits.extractors)
    assert fresh.copies.close.value < 0.06
    assert fresh.copies.identical == 0


def test_wrong_labels_lower_what_is_recognised_as_asked(digits: Any) -> None:
    wrong = digits.labels.copy()
    wrong[:200] = (wrong[:200] + 1) % 10
    found = evaluate(digits.samples, wrong, digits.dataset, digits.extractors)
    assert found.metrics["classifier"]["recognised"].value == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_recognition_stands_beside_that_of_the_real_samples_it_is_judged_by(split: str, digits: Any) -> None:
    (judge,) = [e for e in digits.extractors if e.name == "classifier"]
    found = evaluate(digits.samples, digits.labels, digits.dataset, digits.extractors, split=split)
    assert judge.accuracy["validation"] != judge.accuracy["test"]
    assert found.metrics["classifier"]["recognised"].floor == judge.accuracy[split]


def test_the_record_holds_what_the_report_needs(good: Any) -> None:
    record = jsonable(good)
    assert set(record["random"]["frechet"]) == {"value", "interval", "floor", "n", "seed", "signature"}
    assert record["coverage_per_class"].keys() == {str(c) for c in range(10)}
    assert len(record["spread"]["frechet_by_member"]["random"]) == 3
    assert record["copies"]["nearest"][0]["distance"] <= record["copies"]["nearest"][1]["distance"]
    assert record["judges"][0]["accuracy"]["test"] > 0.9
    assert record["reference"]["random"]["coverage"] == record["random"]["coverage"]["floor"]


def test_vectors_without_a_classifier() -> None:
    rng = np.random.default_rng(0)
    centres = 8 * rng.normal(size=(10, 6))
    dataset = vector_dataset(rng, centres, (400, 200, 200))
    kept = centres[rng.integers(0, 5, 300)] + rng.normal(size=(300, 6))
    found = evaluate(kept.astype(np.float32), None, dataset, [Identity()])
    assert found.metrics["identity"]["coverage"].value == pytest.approx(0.5, abs=0.1)
    assert found.metrics["identity"]["precision"].value > 0.9
    assert found.per_class["0"]["generated"] is None


def test_more_samples_than_training_samples_are_cut_to_equal_n() -> None:
    rng = np.random.default_rng(0)
    dataset = vector_dataset(rng, np.zeros((2, 6)), (120, 100, 100))
    found = evaluate(rng.normal(size=(500, 6)), None, dataset, [Identity()])
    assert found.n == 120
    assert found.metrics["identity"]["frechet"].n == (100, 120)


def test_bad_calls(digits: Any) -> None:
    with pytest.raises(CallError, match="extractor"):
        evaluate(digits.samples, None, digits.dataset, [])
    with pytest.raises(CallError, match="no split"):
        evaluate(digits.samples, None, digits.dataset, digits.extractors, split="tset")
    with pytest.raises(CallError, match="one label"):
        evaluate(digits.samples, digits.labels[:5], digits.dataset, digits.extractors)

"""The reference that a model stands beside has the classes that were asked of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from niwaki.data import DataConfig, Dataset, load
from niwaki.evaluation import EvaluateConfig
from niwaki.evaluation.statistics.samples import drawn_alike, drawn_evenly
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.subjects.samples import evidence_of_files
from niwaki.workflow.subjects.subject import open_subject


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DataConfig(source="digits"))


def test_the_reference_has_each_class_as_often_as_the_samples(digits: Dataset) -> None:
    labels = np.repeat([3, 7, 0], [50, 20, 5])
    found = drawn_alike(digits, labels, 75, 0)
    assert len(np.unique(found)) == 75
    assert digits.train.y is not None
    assert sorted(digits.train.y.numpy()[found]) == sorted(labels)
    assert not np.array_equal(found, drawn_alike(digits, labels, 75, 1))


def test_where_a_class_runs_out_others_fill_up(digits: Dataset) -> None:
    assert digits.train.y is not None
    there = int((digits.train.y == 4).sum())
    found = drawn_alike(digits, np.full(there + 30, 4), there + 30, 0)
    assert len(np.unique(found)) == there + 30
    assert int((digits.train.y.numpy()[found] == 4).sum()) == there


def test_without_labels_it_is_a_random_draw(digits: Dataset) -> None:
    found = drawn_alike(digits, None, 200, 0)
    assert len(np.unique(found)) == 200
    assert digits.train.y is not None
    assert len(np.unique(digits.train.y.numpy()[found])) == 10


def test_an_even_draw_has_of_every_class_its_share_and_depends_on_the_seed() -> None:
    labels = np.repeat([0, 1, 2, 7], [10, 300, 590, 100])
    found = drawn_evenly(labels, 1000, 333, 0)
    assert len(found) == len(set(found.tolist())) == 333
    assert (np.diff(found) > 0).all()
    counts = np.unique(labels[found], return_counts=True)[1]
    np.testing.assert_allclose(counts, [3.33, 99.9, 196.47, 33.3], atol=1)
    assert not np.array_equal(found, drawn_evenly(labels, 1000, 333, 1))
    np.testing.assert_array_equal(found, drawn_evenly(labels, 1000, 333, 0))


def test_an_even_draw_of_all_is_all_and_without_labels_it_is_uniform() -> None:
    np.testing.assert_array_equal(drawn_evenly(None, 5, 9, 0), np.arange(5))
    often = np.zeros(20)
    for seed in range(400):
        often[drawn_evenly(None, 20, 5, seed)] += 1
    assert often.min() > 60
    assert often.max() < 140
    assert len(drawn_evenly(np.arange(50), 50, 7, 0)) == 7  # more classes than places


@pytest.mark.parametrize("labelled", [False, True])
def test_more_files_than_training_samples_are_drawn_and_not_cut(
    labelled: bool, tmp_path: Path, digits: Dataset
) -> None:
    """Sorted by class, the first as many would lack whole classes."""
    splits = [digits.train, digits.validation, digits.test]
    x = np.concatenate([s.values().numpy() for s in splits])
    y = np.concatenate([s.y.numpy() for s in splits if s.y is not None])
    order = np.argsort(y, kind="stable")
    np.savez(tmp_path / "s.npz", x=x[order], **({"y": y[order]} if labelled else {}))
    context = EvaluationContext(digits, EvaluateConfig())
    subject = open_subject(tmp_path / "s.npz")
    evidence, origin = evidence_of_files(subject, context)
    assert evidence.n == len(evidence.arrays["samples"]) == len(digits.train)
    assert origin.n == len(x)
    left_out = f"{len(x) - len(digits.train):,} of {len(x):,} samples are left out"
    assert any(left_out in remark for remark in origin.remarks)
    place = {row.tobytes(): int(c) for row, c in zip(x, y, strict=True)}
    seen = np.array([place[row.tobytes()] for row in evidence.arrays["samples"]])
    share = np.unique(seen, return_counts=True)[1] / len(seen)
    real = np.unique(y, return_counts=True)[1] / len(y)
    np.testing.assert_allclose(share, real, atol=0.002 if labelled else 0.03)

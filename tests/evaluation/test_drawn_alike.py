"""The reference that a model stands beside has the classes that were asked of it."""

from __future__ import annotations

import numpy as np
import pytest

from niwaki.data import DataConfig, Dataset, load
from niwaki.evaluation.statistics.samples import drawn_alike


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

"""What a search judges by is never the test split."""

from __future__ import annotations

import numpy as np
import pytest

from niwaki.data import DataConfig, Dataset, load
from niwaki.workflow.searching.rehearsal import rehearsed


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(DataConfig(source="digits"))


def rows(x: object) -> set[bytes]:
    return {row.tobytes() for row in np.asarray(x)}


def test_no_row_of_the_test_split_is_judged_by(digits: Dataset) -> None:
    found = rehearsed(digits)
    test = rows(digits.test.x)
    for split in found.splits.values():
        assert not rows(split.x) & test


def test_validation_samples_come_first_and_enough_of_training_follow(digits: Dataset) -> None:
    found = rehearsed(digits)
    known = len(digits.validation)
    assert len(found.test) >= 360
    assert rows(found.test.x[:known]) == rows(digits.validation.x)
    assert rows(found.test.x[known:]) <= rows(digits.train.x)
    assert not rows(found.test.x) & rows(found.validation.x)
    assert found.test.y is not None
    assert len(found.test.y) == len(found.test)
    assert found.fingerprint != digits.fingerprint

"""scikit-learn's digits, all of them, divided so that nothing is shared."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from sklearn.datasets import load_digits

from niwaki.data import DataConfig, Dataset, load
from niwaki.data.splitting import hash_samples


def test_all_digits_are_there_with_their_labels(digits: Dataset) -> None:
    found = load_digits()
    expected = Counter(
        (image.tobytes(), int(y)) for image, y in zip(found.images.astype("uint8"), found.target, strict=True)
    )
    present: Counter[tuple[bytes, int]] = Counter()
    for split in digits.splits.values():
        assert split.y is not None
        present.update((x.numpy().tobytes(), int(y)) for x, y in zip(split.x, split.y, strict=True))
    assert present == expected
    assert sum(present.values()) == 1797
    assert digits.spec.levels == 17


def test_no_image_lies_in_two_splits(digits: Dataset) -> None:
    sets = [set(hash_samples(s.x)) for s in digits.splits.values()]
    assert sum(map(len, sets)) == len(set.union(*sets))


def test_every_class_is_in_every_split(digits: Dataset) -> None:
    for split in digits.splits.values():
        assert split.y is not None
        assert set(split.y.tolist()) == set(range(10))
    assert digits.audit.of_kind("class balance") == ()


def test_the_summary_adds_up(digits: Dataset) -> None:
    summary = digits.audit.summary
    assert sum(summary["samples"].values()) == 1797
    threes = sum(summary["class_counts"][s]["3"] for s in ("train", "validation", "test"))
    assert threes == int((load_digits().target == 3).sum())
    assert summary["values"]["mean"] == np.mean(load_digits().images)


def test_the_same_config_gives_the_same_data(digits: Dataset) -> None:
    again = load(DataConfig(source="digits"))
    assert again.fingerprint == digits.fingerprint
    assert torch.equal(again.test.x, digits.test.x)
    other = load(DataConfig(source="digits", seed=1))
    assert other.fingerprint != digits.fingerprint


def test_labels_can_be_left_out() -> None:
    without = load(DataConfig(source="digits", labels=False))
    assert without.train.y is None
    assert without.spec.classes == 0

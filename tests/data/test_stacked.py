"""Stacked digits: a thousand modes, and no digit in two splits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.data import DataConfig, Dataset, load
from niwaki.data.splitting import hash_samples

SMALL = {"source": "stacked-digits", "samples": 5000}


@pytest.fixture(scope="module")
def stacked() -> Dataset:
    return load(DataConfig.model_validate(SMALL))


@pytest.fixture(scope="module")
def known(digits: Dataset) -> dict[str, dict[bytes, set[int]]]:
    """The classes of every single digit, by split and hash."""
    out: dict[str, dict[bytes, set[int]]] = {}
    for name, split in digits.splits.items():
        assert split.y is not None
        of = out.setdefault(name, {})
        for h, y in zip(hash_samples(split.x), split.y.tolist(), strict=True):
            of.setdefault(h, set()).add(y)
    return out


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_channel_is_a_digit_of_its_own_split_and_class(
    split: str, stacked: Dataset, known: dict[str, dict[bytes, set[int]]]
) -> None:
    part = stacked.split(split)
    for k, channel in enumerate(("red", "green", "blue")):
        hashes = hash_samples(part.x[:, k : k + 1])
        for h, y in zip(hashes, part.column(channel).data.tolist(), strict=True):
            assert y in known[split][h]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_mode_is_the_three_digits_and_all_modes_are_equally_frequent(
    split: str, stacked: Dataset
) -> None:
    part = stacked.split(split)
    assert part.y is not None
    red, green, blue = (part.column(c).data for c in ("red", "green", "blue"))
    assert torch.equal(part.y, 100 * red + 10 * green + blue)
    counts = torch.bincount(part.y, minlength=1000)
    assert counts.max() - counts.min() <= 1
    name = stacked.spec["class"].names[int(part.y[0])]
    assert name == f"{int(red[0])}{int(green[0])}{int(blue[0])}"


def test_the_spec_names_the_channels_and_sizes_are_as_asked(stacked: Dataset) -> None:
    assert stacked.spec.x.names == ("red", "green", "blue")
    assert (stacked.spec.shape, stacked.spec.levels, stacked.spec.classes) == ((3, 8, 8), 17, 1000)
    assert [len(stacked.split(s)) for s in ("train", "validation", "test")] == [3500, 500, 1000]


def test_it_follows_from_the_seed_alone(stacked: Dataset) -> None:
    assert load(DataConfig.model_validate(SMALL)).fingerprint == stacked.fingerprint
    assert load(DataConfig.model_validate({**SMALL, "seed": 1})).fingerprint != stacked.fingerprint


def test_labels_may_be_left_out_and_the_channels_keep_theirs() -> None:
    found = load(DataConfig.model_validate({**SMALL, "labels": False}))
    assert found.spec.classes == 0
    assert np.array_equal(sorted(found.train.columns), ["blue", "green", "red", "x"])


def test_a_split_without_some_digit_is_refused() -> None:
    with pytest.raises(CallError, match=r"the split 'validation': it does not hold every digit"):
        load(DataConfig.model_validate({**SMALL, "fractions": (0.795, 0.005, 0.2)}))

"""Planting: what is planted is there as often as said, and a model that gives it out is found out."""

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.data import load
from niwaki.recipe import load_recipe
from niwaki.workflow.planting import measured, planted_split


@pytest.fixture(scope="module")
def digits():
    return load(load_recipe("digits-gan").data)


def test_planted_rows_are_repeated_and_controls_are_not(digits):
    split, chosen, controls = planted_split(digits.train, 5, 7, seed=1)
    assert len(split) == len(digits.train) + 5 * 6
    assert not set(chosen) & set(controls)
    for row in chosen:
        assert (split.x == digits.train.x[row]).flatten(1).all(1).sum() >= 7
    assert torch.equal(split.x[: len(digits.train)], digits.train.x)


def test_too_many_are_refused(digits):
    with pytest.raises(CallError, match="too many to plant"):
        planted_split(digits.train, len(digits.train), 2, seed=0)


def test_the_measures_see_copies_and_none_in_new_samples(digits):
    new = digits.test.values().numpy()
    _, found = measured(digits, new, seed=0)
    copied = np.concatenate([new[:200], digits.train.values(torch.arange(20)).numpy().repeat(5, 0)])
    copies, seen = measured(digits, copied, seed=0)
    assert set(range(20)) <= set(copies.index[copies.equal].tolist())
    assert seen["gate"]["alarm"]
    assert seen["authenticity"]["value"] < found["authenticity"]["value"]
    assert seen["copying_test"]["value"] < found["copying_test"]["value"]

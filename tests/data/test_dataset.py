"""Stored integers and the values that a model sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import Dataset, Split


@pytest.mark.parametrize("levels", [2, 17, 100, 256])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (-3.0, 5.0)])
def test_values_are_the_affine_map_of_the_levels(levels: int, low: float, high: float) -> None:
    stored = torch.arange(levels, dtype=torch.uint8).reshape(levels, 1)
    split = Split.of(DataSpec.of("vector", (1,), low=low, high=high, levels=levels), stored)
    exact = low + (high - low) * np.arange(levels) / (levels - 1)
    values = split.values().numpy().ravel()
    assert values.dtype == np.float32
    assert np.abs(values - exact).max() <= 2e-7 * max(abs(low), abs(high))
    assert (values[0], values[-1]) == (low, high)  # to the bit: nothing lies outside the range
    assert (np.diff(values) > 0).all()


def test_a_picture_comes_back_from_its_values() -> None:
    """Stored levels → values → 0 … 255 is the identity for 256 levels."""
    spec = DataSpec.of("image", (1, 16, 16))
    stored = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert np.array_equal(spec.to_uint8(Split.of(spec, stored).values().numpy()), stored.numpy())


def test_float_samples_pass_unchanged() -> None:
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Split.of(DataSpec.of("vector", (3,)), x).values(torch.tensor([2, 0])), x[[2, 0]])


def test_select_keeps_everything_aligned() -> None:
    n = 9
    x = torch.arange(n, dtype=torch.uint8).reshape(n, 1)
    spec = DataSpec.of("vector", (1,), classes=n)
    split = Split.of(spec, x, y=torch.arange(n), attributes={"twice": 2 * torch.arange(n)})
    part = split.select(torch.arange(n) % 2 == 1)
    assert part.y is not None
    assert part.x.flatten().tolist() == part.y.tolist() == [1, 3, 5, 7]
    assert part.attributes["twice"].tolist() == [2, 6, 10, 14]
    assert len(split) == n


def test_an_unknown_split_is_named(digits: Dataset) -> None:
    assert digits.split("validation") is digits.validation
    with pytest.raises(CallError, match="did you mean 'train'"):
        digits.split("training")

"""Running a program within a training leaves every module in the mode that it was in."""

from __future__ import annotations

import pytest
import torch
from model_cases import DIGITS, make
from torch import nn


def test_a_frozen_part_stays_in_evaluation_mode() -> None:
    """Else the batch statistics of what is frozen would move with the next step."""
    model = make("dcgan", DIGITS)
    model.train()
    frozen = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    frozen.eval()
    before = [m.training for m in model.modules()]
    assert before.count(False) == 1
    with model.running():
        assert not any(m.training for m in model.modules())
    assert [m.training for m in model.modules()] == before
    model.run("sample", 2, seed=0)
    assert [m.training for m in model.modules()] == before
    mean = frozen.running_mean
    assert mean is not None
    mean = mean.clone()
    frozen(torch.randn(8, frozen.num_features, 3, 3))
    assert torch.equal(mean, frozen.running_mean)


def test_modes_return_after_an_error_too() -> None:
    model = make("dcgan", DIGITS)
    model.train()
    with pytest.raises(RuntimeError, match="halfway"), model.running():
        raise RuntimeError("halfway")
    assert all(m.training for m in model.modules())

"""Dropout with cheap masks does what torch's does."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from niwaki.nn.layers.dropout import Dropout

SHAPES = [(4096,), (64, 63), (16, 5, 51), (8, 4, 9, 15)]


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("shape", SHAPES)
def test_share_and_scale(p: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(shape))
    n, dropped = out.numel(), (out == 0).float().mean().item()
    assert abs(dropped - p) < 5.0 * math.sqrt(p * (1.0 - p) / n)
    assert torch.allclose(out[out != 0], torch.tensor(1.0 / (1.0 - p)), rtol=1e-4)


def test_values_are_dropped_independently() -> None:
    """Four values come from one word: neighbours must not know of each other."""
    torch.manual_seed(0)
    kept = (Dropout(0.5)(torch.ones(40_000, 4)) != 0).double()
    correlation = torch.corrcoef(kept.t()) - torch.eye(4)
    assert correlation.abs().max() < 5.0 / math.sqrt(40_000)


def test_gradient_passes_where_values_do() -> None:
    torch.manual_seed(0)
    x = torch.randn(32, 33, dtype=torch.float64, requires_grad=True)
    out = Dropout(0.3)(x)
    out.sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad * x.detach(), out.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_follows_from_the_seed_and_keeps_the_type(dtype: torch.dtype) -> None:
    drop, x = Dropout(0.4), torch.ones(7, 9, dtype=dtype)
    torch.manual_seed(3)
    first = drop(x)
    torch.manual_seed(3)
    assert torch.equal(first, drop(x))
    assert not torch.equal(first, drop(x))
    assert first.dtype == dtype


@pytest.mark.parametrize(("p", "value"), [(0.0, 1.0), (1.0, 0.0)])
def test_nothing_and_everything(p: float, value: float) -> None:
    assert torch.equal(Dropout(p)(torch.ones(5, 6)), torch.full((5, 6), value))


def test_evaluation_changes_nothing() -> None:
    x = torch.randn(4, 4)
    assert Dropout(0.5).eval()(x) is x
    assert isinstance(Dropout(0.5), nn.Dropout)
    assert Dropout(0.5)(torch.ones(0, 3)).shape == (0, 3)

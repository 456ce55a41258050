"""Scores of single weights: against finite differences, and where the answer is known."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from compression import small_models
from torch import Tensor, nn

from niwaki.compression.pruning.importance.criteria import Movement, criterion_of
from niwaki.compression.pruning.importance.evidence import Evidence
from niwaki.core.contract import Batch


class Linear(small_models.SmallGan):
    """y = w·z, with a loss that is written down."""

    name = "test-linear"

    def __init__(self) -> None:
        super().__init__(small_models.Config(), small_models.IMAGE)
        self.generator = nn.Sequential()
        self.generator.add_module("only", nn.Linear(3, 2, bias=False))


def linear() -> Linear:
    torch.manual_seed(0)
    return Linear().double()


def test_taylor_is_what_removing_a_weight_changes_to_first_order() -> None:
    """Against central differences: ∂L/∂(gate) at a gate of 1 is w·∂L/∂w."""
    model = linear()
    x, c = torch.randn(7, 3, dtype=torch.float64), torch.randn(7, 2, dtype=torch.float64)

    def loss(m: Any, batch: Batch) -> Tensor:
        return (m.generator.only(x) - c).pow(3).mean()

    w = model.generator.only.weight
    found = {"generator.only.weight": w}
    batches = SimpleNamespace(x=torch.zeros(8, 1, 8, 8))
    evidence = Evidence(loss=loss)
    evidence.batches = lambda m: iter([batches])  # type: ignore[method-assign]
    score = criterion_of("taylor")(model, found, evidence)["generator.only.weight"]
    e = 1e-5
    for i in range(2):
        for j in range(3):
            values = []
            for factor in (1 + e, 1 - e):
                other = copy.deepcopy(model)
                with torch.no_grad():
                    other.generator.only.weight[i, j] *= factor
                values.append(float(loss(other, batches).detach()))
            assert float(score[i, j]) == pytest.approx(abs(values[0] - values[1]) / (2 * e), rel=1e-6)
    assert not any(p.grad is not None for p in model.parameters())


def test_without_a_loss_of_its_own_a_model_is_asked_how_its_outputs_move() -> None:
    """y = Wz: E over r of (w·∂(r·y)/∂w)² = w² Σ z²: the score's mean square follows."""
    from niwaki.adapters import adapt

    torch.manual_seed(0)
    model = adapt(nn.Linear(3, 2, bias=False), latent=3)
    evidence = Evidence(batches=1500, batch=16)
    (score,) = criterion_of("taylor")(model, {"generator.weight": model.generator.weight}, evidence).values()
    from niwaki.compression.seeds import CALIBRATION
    from niwaki.deployment.parity import record_calls

    z = record_calls(model, 16, seed=CALIBRATION)[1]["generator"].calls[0][0][0]
    expected = np.abs(model.generator.weight.detach().numpy()) * np.sqrt((z**2).sum(0))
    np.testing.assert_allclose(score.numpy(), expected, rtol=0.08)


def test_movement_on_a_quadratic_is_known() -> None:
    """L = ½(w−c)² by gradient descent: w_t = c + (w₀−c)(1−η)^t, so S = Σ −w_t(w_t−c) is known."""
    w0, c, rate, steps = torch.tensor([1.0, 1.0, -0.5]), torch.tensor([2.0, 0.1, 0.0]), 0.1, 20
    w = nn.Parameter(w0.clone().double())
    watched = Movement({"w": w})
    opt = torch.optim.SGD([w], lr=rate)
    for _ in range(steps):
        (0.5 * (w - c) ** 2).sum().backward()
        opt.step()
        opt.zero_grad()
    watched.close()
    t = torch.arange(steps, dtype=torch.float64)[:, None]
    path = c + (w0 - c).double() * (1 - rate) ** t
    torch.testing.assert_close(
        watched.scores["w"].double(), -(path * (path - c)).sum(0), rtol=1e-5, atol=1e-6
    )
    assert watched.scores["w"][0] > 0 > watched.scores["w"][2]  # away from zero, towards zero
    before = watched.scores["w"].clone()
    (w * 2).sum().backward()  # closed: nothing is collected any more
    assert torch.equal(watched.scores["w"], before)

"""Weights of noise levels, against their closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from niwaki.nn.loss_weights import Uncertainty, min_snr_weight
from niwaki_runtime.process import Karras, LinearPath, VariancePreserving
from niwaki_runtime.process.conversions import CONVERSIONS

GAMMA = 5.0


def preserving(snr: list[float]) -> tuple[Tensor, Tensor]:
    """(α, σ) of a path that preserves variance."""
    ratio = torch.tensor(snr, dtype=torch.float64)
    return (ratio / (1 + ratio)).sqrt(), (1 / (1 + ratio)).sqrt()


@pytest.mark.parametrize("snr", [1e-6, 0.3, 4.9, 5.0, 5.1, 80.0])
def test_min_snr_is_the_published_weight_of_each_prediction(snr: float) -> None:
    """min(SNR, γ)/SNR for ε, min(SNR, γ)/(SNR + 1) for v (Hang et al. 2023, Section 3.4)."""
    a, s = preserving([snr])
    least = min(snr, GAMMA)
    wanted = {"epsilon": least / snr, "x0": least, "v": least / (snr + 1)}
    for prediction, weight in wanted.items():
        found = min_snr_weight(CONVERSIONS[prediction], a, s, GAMMA)
        assert float(found) == pytest.approx(weight, rel=1e-9), prediction


@pytest.mark.parametrize("prediction", sorted(CONVERSIONS))
def test_min_snr_is_finite_in_pure_noise(prediction: str) -> None:
    """At α = 0 the weight of ε is 1 and that of the others 0, in float32, with no NaN."""
    found = min_snr_weight(CONVERSIONS[prediction], torch.tensor([0.0]), torch.tensor([1.0]), GAMMA)
    assert float(found) == pytest.approx(float(prediction == "epsilon"), abs=1e-6)


@pytest.mark.parametrize(
    ("process", "t"),
    [(VariancePreserving(train_steps=50), 20), (Karras(), 0.7), (Karras(), 30.0), (LinearPath(), 0.4)],
)
def test_min_snr_weighs_the_error_of_x0_the_same_whatever_the_network_says(process: Any, t: float) -> None:
    torch.manual_seed(0)
    x0, eps, wrong = torch.randn(3, 6, dtype=torch.float64)
    a, s = (torch.tensor(v, dtype=torch.float64) for v in process.alpha_sigma(t))
    for prediction in process.predictions:
        known = process.conversion(prediction)
        said = known.target(x0, eps, a, s) + wrong
        error = known.to_x0_eps(a * x0 + s * eps, said, a, s)[0] - x0
        weighed = min_snr_weight(known, a, s, GAMMA) * wrong.square()
        torch.testing.assert_close(weighed, ((a / s) ** 2).clamp(max=GAMMA) * error.square())


def test_uncertainty_begins_at_nothing_and_is_finite_in_pure_noise() -> None:
    torch.manual_seed(0)
    weighing = Uncertainty()
    a, s = torch.tensor([1.0, 0.5, 0.0]).reshape(3, 1, 1), torch.tensor([1e-3, 0.7, 1.0]).reshape(3, 1, 1)
    assert torch.equal(weighing(a, s), torch.zeros(3, 1, 1))
    torch.nn.init.normal_(weighing.out.weight)
    assert torch.isfinite(weighing(a, s)).all()
    assert weighing.frequencies.square().mean().sqrt() == pytest.approx(2 * torch.pi, rel=0.1)


def test_uncertainty_learns_the_logarithm_of_the_mean_error() -> None:
    """error/eᵘ + u is least at u = ln error, of every level: its gradient there vanishes and u goes there."""
    torch.manual_seed(0)
    weighing = Uncertainty()
    s = torch.logspace(-2, 1.5, 64)
    a, error = torch.ones_like(s), 0.3 * s.square() / (1 + s.square())
    optimizer = torch.optim.Adam(weighing.parameters(), lr=0.05)
    for k in range(600):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 - k / 600)
        optimizer.zero_grad()
        u = weighing(a, s)
        (error / u.exp() + u).mean().backward()
        optimizer.step()
    torch.testing.assert_close(weighing(a, s).detach(), error.log(), atol=0.15, rtol=0)

"""The variational bound of learned variances, against torch.distributions and its own optimum."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from niwaki.nn.diffusion import TensorProcess
from niwaki.nn.learned_variance import log_variance, variance_bound
from niwaki_runtime.process import VariancePreserving

PATHS = [VariancePreserving("cosine", 50), VariancePreserving("linear", 50, zero_terminal_snr=True)]


def double(path: VariancePreserving) -> TensorProcess:
    made = TensorProcess(path)
    bars = torch.tensor([path.alpha_sigma(t) for t in range(path.timesteps)], dtype=torch.float64)
    made.alphas, made.sigmas = bars.unbind(1)
    return made


@pytest.mark.parametrize("path", PATHS, ids=["cosine", "zero_terminal_snr"])
@pytest.mark.parametrize("t", [1, 20, 49])
def test_a_term_is_the_divergence_of_the_two_steps_back(path: VariancePreserving, t: int) -> None:
    """Ho, Jain & Abbeel 2020, Equations 6 and 7, step by step."""
    torch.manual_seed(0)
    x0, guess, x = torch.randn(3, 5, dtype=torch.float64)
    share = torch.rand(5, dtype=torch.float64)
    process, at = double(path), torch.tensor([t])
    (a, s), (a_before, s_before) = process.levels(at), process.before(at)
    alpha = (a / a_before) ** 2
    beta, posterior = 1 - alpha, s_before**2 / s**2 * (1 - alpha)

    def mean(clean: Tensor) -> Tensor:
        return a_before * beta / s**2 * clean + alpha.sqrt() * s_before**2 / s**2 * x

    sigma = (share * beta.log() + (1 - share) * posterior.log()).exp().sqrt()
    wanted = kl_divergence(Normal(mean(x0), posterior.sqrt()), Normal(mean(guess), sigma)) / math.log(2)
    found = variance_bound(x0, guess, share, (a, s), (a_before, s_before), process.least_posterior())
    torch.testing.assert_close(found, wanted)


def test_the_first_timestep_scores_the_level_of_the_data() -> None:
    """−log₂ of the mass between the edges of each level, the outer ones open: together the mass is 1."""
    process, at = double(PATHS[0]), torch.tensor([0])
    levels = torch.linspace(-1, 1, 17, dtype=torch.float64)
    guess, share = torch.full((17,), 0.2, dtype=torch.float64), torch.full((17,), 0.7, dtype=torch.float64)
    given = process.levels(at), process.before(at), process.least_posterior()
    bits = variance_bound(levels, guess, share, *given, step=0.125)
    assert float((2.0**-bits).sum()) == pytest.approx(1.0, abs=1e-9)
    density = variance_bound(levels, guess, share, *given)
    log_sigma = log_variance(share, (process.sigmas[0] ** 2).log(), given[2].log())
    wanted = -Normal(guess, (0.5 * log_sigma).exp()).log_prob(levels) / math.log(2)
    torch.testing.assert_close(density, wanted)


def test_shares_run_from_the_posterior_to_the_forward_variance() -> None:
    beta, posterior = torch.tensor([0.3]).log(), torch.tensor([0.1]).log()
    for share, variance in ((0.0, 0.1), (1.0, 0.3), (0.5, math.sqrt(0.03))):
        assert float(log_variance(torch.tensor([share]), beta, posterior).exp()) == pytest.approx(variance)


def test_the_best_variance_is_that_of_the_error() -> None:
    """The bound is least where Σ = β̃ + (the mean's squared error): what learning it leads to."""
    process, at = double(PATHS[0]), torch.tensor([20])
    (a, s), (a_before, s_before) = process.levels(at), process.before(at)
    beta = 1 - (a / a_before) ** 2
    posterior = s_before**2 / s**2 * beta
    x0 = torch.zeros(1, dtype=torch.float64)
    off = (0.5 * (beta - posterior)).sqrt()  # between the two ends
    guess = off * s**2 / (a_before * beta)
    share = torch.full((1,), 0.5, dtype=torch.float64, requires_grad=True)
    best = ((posterior + off**2).log() - posterior.log()) / (beta.log() - posterior.log())
    at_best = best.clone().requires_grad_()
    levels = (a, s), (a_before, s_before), process.least_posterior()
    (slope,) = torch.autograd.grad(variance_bound(x0, guess, at_best, *levels).sum(), at_best)
    (other,) = torch.autograd.grad(variance_bound(x0, guess, share, *levels).sum(), share)
    assert abs(float(slope)) < 1e-9
    assert abs(float(other)) > 1e-6 or float(best.detach()) == pytest.approx(0.5)


@pytest.mark.parametrize("path", PATHS, ids=["cosine", "zero_terminal_snr"])
def test_every_timestep_is_finite_in_float32_with_its_gradient(path: VariancePreserving) -> None:
    process, t = TensorProcess(path), torch.arange(50)
    x0 = torch.linspace(-1, 1, 50)
    share = torch.full((50,), 0.5, requires_grad=True)
    given = process.levels(t), process.before(t), process.least_posterior()
    bound = variance_bound(x0, x0 + 0.1, share, *given, step=2 / 16)
    bound.mean().backward()
    assert bound.isfinite().all()
    assert share.grad is not None
    assert share.grad.isfinite().all()

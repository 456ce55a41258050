from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.bits_per_dim import bits_per_dim


@pytest.mark.parametrize(
    ("levels", "span", "compat"), [(256, 2.0, None), (17, 1.0, None), (256, 1.0, "glow")]
)
def test_a_uniform_density_costs_log2_of_the_levels(levels: int, span: float, compat: str | None) -> None:
    """Dequantised data fill `levels` cells of one step each; the uniform density over them is their inverse
    volume."""
    dims, step = 12, span / (levels if compat else levels - 1)
    log_prob = np.full(5, -dims * math.log(levels * step))
    found = bits_per_dim(log_prob, dims=dims, levels=levels, span=span, compat=compat)
    assert found.value == pytest.approx(math.log2(levels), rel=1e-12)


def test_a_density_that_is_constant_in_each_cell_gives_the_entropy_of_the_levels() -> None:
    """P(level) = density × step exactly, so that the value is the cross-entropy in bits, with no gap."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(9))
    stored = rng.choice(9, size=(4000, 3), p=p)
    step = 4.0 / 8
    log_prob = np.log(p[stored] / step).sum(1)
    found = bits_per_dim(log_prob, dims=3, levels=9, span=4.0)
    np.testing.assert_allclose(found.per_sample, -np.log2(p[stored]).mean(1), rtol=1e-12)
    assert found.interval[0] < -(p * np.log2(p)).sum() < found.interval[1]


def test_it_bounds_the_code_length_from_above() -> None:
    """Jensen: the density of a normal, averaged over the noise, against its true mass in each cell."""
    from scipy.stats import norm

    rng = np.random.default_rng(1)
    stored = rng.integers(0, 8, 5000)
    step, scale = 1.0 / 7, 0.2
    noisy = (stored + rng.uniform(-0.5, 0.5, 5000)) * step
    found = bits_per_dim(norm.logpdf(noisy, 0.5, scale), dims=1, levels=8, span=1.0)
    edges = norm.cdf((np.arange(9) - 0.5) * step, 0.5, scale)
    code = -np.log2(np.diff(edges))[stored].mean()
    assert code < found.value < code + 0.1


def test_scaling_the_data_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(50, 4))
    first = bits_per_dim(multivariate_normal(np.zeros(4)).logpdf(x), dims=4, span=2.0)
    wide = multivariate_normal(np.zeros(4), 100 * np.eye(4)).logpdf(10 * x)
    second = bits_per_dim(torch.from_numpy(wide), dims=4, span=20.0)
    np.testing.assert_allclose(second.per_sample, first.per_sample, rtol=1e-12)


def test_without_levels_it_is_the_differential_entropy() -> None:
    x = np.random.default_rng(3).normal(size=(20000, 2))
    found = bits_per_dim(multivariate_normal(np.zeros(2)).logpdf(x), dims=2, levels=None)
    truth = 0.5 * math.log2(2 * math.pi * math.e)
    assert found.interval[0] < truth < found.interval[1]
    assert "levels" not in found.signature


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(CallError, match="not finite, the first is -inf of sample 1"):
        bits_per_dim([0.0, -math.inf, math.nan], dims=1)
    with pytest.raises(CallError, match="dims"):
        bits_per_dim([0.0, 1.0], dims=0)
    with pytest.raises(CallError, match="levels"):
        bits_per_dim([0.0, 1.0], dims=1, levels=1)
    with pytest.raises(CallError, match="log_prob must be"):
        bits_per_dim([[0.0, 1.0]], dims=1)
    with pytest.raises(CallError, match="log_prob must be"):
        bits_per_dim([0.0], dims=1)
    with pytest.raises(CallError, match="glow"):
        bits_per_dim([0.0, 1.0], dims=1, compat="glo")

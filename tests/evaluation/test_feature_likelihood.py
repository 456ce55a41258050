from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics import feature_likelihood
from niwaki.evaluation.metrics.feature_likelihood import (
    _FITS,
    _bandwidths,
    _nll,
    feature_likelihood_divergence,
)


def sets(seed: int = 0, d: int = 5, m: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(120, d)), rng.normal(size=(50, d)), rng.normal(size=(m, d))


def log_density(x: np.ndarray, centres: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """log of the mean over the centres of N(x; g, σ² I), by loops."""
    d = x.shape[1]
    terms = [
        [
            -((a - g) ** 2).sum() / (2 * v) - d / 2 * math.log(2 * math.pi * v)
            for g, v in zip(centres, variance, strict=True)
        ]
        for a in x
    ]
    return logsumexp(np.array(terms), axis=1) - math.log(len(centres))


def slow_adam(centres: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The authors' fit, written out with automatic gradients."""
    c, data = torch.from_numpy(centres), torch.from_numpy(x)
    d = x.shape[1]
    d2 = (data[:, None] - c[None]).square().sum(2)
    to_mean = (1 - 0.1) ** 2 * (data - data.mean(0)).square().sum(1, keepdim=True)
    log_s = ((d2.min(0).values + 1e-3) / d).log().requires_grad_()
    wide = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([log_s, wide], lr=0.5)

    def log_normal(dist: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return -0.5 * dist / s.exp() - d / 2 * s - d / 2 * math.log(2 * math.pi)

    for _ in range(50):
        optimiser.zero_grad()
        both = torch.cat([log_normal(d2, log_s) - math.log(len(c)), log_normal(to_mean, wide)], 1)
        (-torch.logsumexp(both, 1).mean() / d).backward()
        optimiser.step()
        with torch.no_grad():
            log_s.clamp_(-40, 20)
    return log_s.detach().exp().numpy()


def slow_em(centres: np.ndarray, x: np.ndarray, iterations: int) -> tuple[np.ndarray, list[float]]:
    d = x.shape[1]
    d2 = ((x[:, None] - centres[None]) ** 2).sum(2)
    to_mean = 0.81 * ((x - x.mean(0)) ** 2).sum(1)
    variance, wide, reached = (d2.min(0) + 1e-3) / d, 1.0, []
    for _ in range(iterations):
        p = np.exp(-d2 / (2 * variance)) / (2 * np.pi * variance) ** (d / 2) / len(centres)
        q = np.exp(-to_mean / (2 * wide)) / (2 * np.pi * wide) ** (d / 2)
        total = p.sum(1) + q
        reached.append(float(np.log(total).mean()) / d)
        p, q = p / total[:, None], q / total
        variance = np.maximum((p * d2).sum(0) / (d * p.sum(0)), 1e-6)
        wide = float((q * to_mean).sum() / (d * q.sum()))
    return variance, reached


def test_is_the_likelihood_of_the_mixture_against_that_of_half_the_training_set() -> None:
    train, test, generated = sets()
    found = feature_likelihood_divergence(train, test, generated, compat="fld", seed=4)
    mean, scale = test.mean(0), test.std(0, ddof=1)
    x, t, g = ((s - mean) / scale for s in (train, test, generated))
    order = np.random.default_rng([4, 0x666C]).permutation(len(x))
    half, rest = x[order[:60]], x[order[60:]]
    base = -log_density(t, half, slow_adam(half, rest)) / 5
    variance = slow_adam(g, x)
    on_test, on_train = -log_density(t, g, variance) / 5, -log_density(x, g, variance) / 5
    np.testing.assert_allclose(found.divergence.per_sample, 100 * (on_test - base), atol=1e-6)
    assert found.divergence.value == pytest.approx(100 * (on_test.mean() - base.mean()), abs=1e-6)
    assert found.train.value == pytest.approx(100 * (on_train.mean() - base.mean()), abs=1e-6)
    assert found.gap.value == pytest.approx(100 * (on_test.mean() - on_train.mean()), abs=1e-6)
    own = [max(log_density(x, g[j : j + 1], variance[j : j + 1])) / 5 for j in range(len(g))]
    np.testing.assert_allclose(found.gap.per_sample, own, atol=1e-6)


def test_bandwidths_are_those_of_a_slow_em_which_never_loses_likelihood() -> None:
    x, _, g = sets(1)
    _, reached = slow_em(g, x, 100)
    assert (np.diff(reached) > -1e-12).all()
    steps = 1 + int(np.argmax(np.diff(reached) < 1e-5)) + 1  # where the fast one stops
    slow, _ = slow_em(g, x, steps)
    fast, _ = _bandwidths(torch.from_numpy(g), torch.from_numpy(x), _FITS[None])
    np.testing.assert_allclose(fast.numpy(), slow, rtol=1e-8)


def test_em_and_the_authors_optimiser_agree() -> None:
    train, test, generated = sets(2, d=16, m=60)
    ours = feature_likelihood_divergence(train, test, generated).divergence
    theirs = feature_likelihood_divergence(train, test, generated, compat="fld").divergence
    assert ours.value == pytest.approx(theirs.value, abs=1.5)


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    first = feature_likelihood_divergence(*sets(3))
    monkeypatch.setattr(feature_likelihood, "_VALUES", 700)
    monkeypatch.setattr(feature_likelihood, "_CACHE", 0)
    second = feature_likelihood_divergence(*sets(3))
    for name, result in first.results().items():
        assert second.results()[name].value == pytest.approx(result.value, rel=1e-9), name


def test_influence_is_the_derivative_to_the_weight_of_a_centre() -> None:
    _, test, generated = sets(4)
    variance = np.random.default_rng(0).uniform(0.2, 1, len(generated))
    values, influence = _nll(*(torch.from_numpy(a) for a in (generated, variance, test)))
    np.testing.assert_allclose(values, -log_density(test, generated, variance) / 5, rtol=1e-12)
    m, step = len(generated), 1e-4
    # One centre given (1 + m·step) times its weight and all divided by (1 + step): d/d step of mean log p.
    alone = np.array([log_density(test, generated[j : j + 1], variance[j : j + 1]) for j in (0, 7)])
    base = log_density(test, generated, variance)
    moved = np.logaddexp(base, alone + math.log(step)) - math.log1p(step)
    np.testing.assert_allclose((moved - base).mean(1) / step / 5, influence[[0, 7]], atol=2e-3)
    assert influence.mean() == pytest.approx(0, abs=1e-12)
    assert len(influence) == m


@pytest.mark.parametrize("d", [4, 24])
def test_a_perfect_generator_scores_about_0_within_its_interval(d: int) -> None:
    values, hits = [], 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sizes = (300, 150, 150)
        found = feature_likelihood_divergence(*(rng.normal(size=(n, d)) for n in sizes), seed=seed).divergence
        values.append(found.value)
        hits += found.interval[0] <= 0 <= found.interval[1]
    assert abs(np.mean(values)) < 2
    assert hits >= 16


def test_copies_are_called_copies() -> None:
    rng = np.random.default_rng(5)
    train, test, generated = (rng.normal(size=(n, 16)) for n in (400, 200, 200))
    clean = feature_likelihood_divergence(train, test, generated)
    assert clean.gap.interval[0] < clean.gap.floor < clean.gap.interval[1]
    gaps = []
    for share in (0.1, 0.5):
        mixed = generated.copy()
        mixed[: int(200 * share)] = train[: int(200 * share)]
        found = feature_likelihood_divergence(train, test, mixed)
        gaps.append(found.gap.value)
        assert found.gap.interval[0] > 5 * clean.gap.floor
        copied = np.argsort(-found.gap.per_sample)[: int(200 * share)]
        assert set(copied) == set(range(int(200 * share)))
    assert gaps[0] < gaps[1]
    noisy = feature_likelihood_divergence(train, test, train[:200] + 0.1 * rng.normal(size=(200, 16)))
    assert noisy.gap.value > 500
    assert noisy.divergence.value > 500
    everything = feature_likelihood_divergence(train, test, train[:200])
    assert 1e5 < everything.gap.value < 1e10


def test_lost_modes_and_bad_samples_cost() -> None:
    rng = np.random.default_rng(6)
    centres = 8 * rng.normal(size=(10, 6))

    def drawn(n: int, modes: int) -> np.ndarray:
        return centres[np.arange(n) % modes] + rng.normal(size=(n, 6))

    train, test = drawn(400, 10), drawn(200, 10)
    lost = [feature_likelihood_divergence(train, test, drawn(200, k)).divergence for k in (10, 8, 5, 1)]
    assert lost[0].interval[0] < 2
    assert (np.diff([r.value for r in lost]) > 0).all()
    assert lost[1].interval[0] > lost[0].interval[1]
    worse = []
    for bad in (0.0, 0.5, 0.9):
        generated = drawn(200, 10)
        generated[: int(200 * bad)] += 50 * rng.normal(size=(int(200 * bad), 6))
        worse.append(feature_likelihood_divergence(train, test, generated).divergence.value)
    assert worse[0] < worse[1] < worse[2]


def test_one_outlier_among_the_training_samples_moves_little() -> None:
    train, test, generated = sets(7)
    before = feature_likelihood_divergence(train, test, generated).divergence.value
    train[3] = 200
    after = feature_likelihood_divergence(train, test, generated).divergence.value
    assert after == pytest.approx(before, abs=5)


def test_units_and_constant_features_do_not_matter() -> None:
    train, test, generated = sets(8)
    scale, shift = np.array([1, 10, 0.01, 3, 1e4]), np.array([0, 5, -1, 1e3, 1])
    first = feature_likelihood_divergence(train, test, generated)
    padded = [np.column_stack([s * scale + shift, np.full(len(s), 7.0)]) for s in (train, test, generated)]
    second = feature_likelihood_divergence(*padded)
    for name, result in first.results().items():
        assert second.results()[name].value == pytest.approx(result.value, rel=1e-6), name


def test_bad_input_gets_one_sentence() -> None:
    train, test, generated = sets(9)
    with pytest.raises(CallError, match="at least 4 train"):
        feature_likelihood_divergence(train[:3], test, generated)
    with pytest.raises(CallError, match="at least 2 test"):
        feature_likelihood_divergence(train, test[:1], generated)
    with pytest.raises(CallError, match="all features are constant"):
        feature_likelihood_divergence(np.ones((9, 2)), np.ones((9, 2)), np.zeros((9, 2)))
    with pytest.raises(CallError, match="did you mean 'fld'"):
        feature_likelihood_divergence(train, test, generated, compat="fdl")
    with pytest.raises(CallError, match="train has 5 features and generated 4"):
        feature_likelihood_divergence(train, test, generated[:, :4])
    with pytest.raises(CallError, match="NaN"):
        feature_likelihood_divergence(train, test, np.full((4, 5), np.nan))

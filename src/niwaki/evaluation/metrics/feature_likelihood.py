"""Feature likelihood divergence: how likely are held-out real samples under a density made of generated ones?

Jiralerspong et al., "Feature likelihood divergence: evaluating the generalization of generative models using
samples", NeurIPS 2023 (https://arxiv.org/abs/2302.04440). It sees fidelity, diversity and novelty at once;
read it beside metrics that tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.statistics.arrays import beside, features
from niwaki.evaluation.statistics.result import Result, normal_interval, signature

__all__ = ["FeatureLikelihood", "feature_likelihood_divergence"]

_VALUES = 1 << 22
"""Squared distances worked on at once (32 MiB)."""
_CACHE = 1 << 24
"""Squared distances kept between iterations (128 MiB); more are computed again."""
_ENOUGH = 1e-5
"""The fit ends where an iteration adds less to the mean log-likelihood per feature."""


@dataclass(frozen=True)
class _Fit:
    """How the bandwidths are found. smallest, largest: bounds of σ²; adam: the authors' optimiser, not EM."""

    smallest: float
    largest: float
    iterations: int
    adam: bool


_FITS = {
    None: _Fit(1e-6, 1e6, 100, False),
    "fld": _Fit(math.exp(-40.0), math.exp(20.0), 50, True),
}


@dataclass(frozen=True)
class FeatureLikelihood:
    """FLD and what overfitting adds to it, in hundredths of a nat per feature.

    divergence: FLD on the test samples: 0 for a perfect generator, more is worse; `per_sample` is the part of
                each *test* sample
    train:      the same on the training samples that the bandwidths were fitted to (no floor)
    gap:        divergence − train: above its floor the generated samples are nearer to the training samples
                than to new ones (the authors' sign is the opposite); `per_sample` is of each *generated*
                sample the largest log-likelihood per feature that its own Gaussian gives to a training
                sample: high is memorised
    """

    divergence: Result
    train: Result
    gap: Result

    def results(self) -> dict[str, Result]:
        """The numbers by name."""
        return {"fld": self.divergence, "fld_train": self.train, "fld_gap": self.gap}


def feature_likelihood_divergence(
    train: Any, test: Any, generated: Any, *, compat: str | None = None, seed: int = 0
) -> FeatureLikelihood:
    """FLD = 100/d · (mean −log p(test) − C), p = 1/m Σ N(g_j, σ_j² I), σ fitted to the training samples.

    train, test, generated: features (n, d), at least 4, 2 and 1; each feature is first divided by its
                            deviation on `test` (on train and test where that is 0; left out where constant)
    compat: "fld" is the authors' optimiser, 50 steps of Adam on log σ² within e^−40 … e^20 (theirs takes
            batches of 10 000 in random order; this one all at once). Ours is EM until it gains less than 1e-5
            nats per feature, with σ² ≥ 1e-6
    seed:   of the split of the training set for C
    C is −log p(test) where half of the training set stands in for the generated samples (at most as many as
    those) and the other half for the training set, so that 0 is the floor. While the bandwidths are fitted, a
    wide Gaussian around the training mean keeps samples that nothing generated is near from widening all;
    p itself has none. Intervals are over the test (and training) samples and the centres, the bandwidths held
    fixed. The gap's floor is that of the mixture of C. FLD may be below 0: samples drawn to the middle of the
    data, or more samples than half of the training set, make a better mixture than real ones. If every
    generated sample is a copy, only the bounds of σ² keep FLD finite.
    Raises CallError for too few samples, differing widths, constant features, NaN, an unknown `compat`.
    """
    if compat not in _FITS:
        names = [c for c in _FITS if c]
        raise CallError(f"compat '{compat}' is not known; {nearest(str(compat), names)}")
    x = features(train, "train", least=4)
    t, g = beside(x, test, "test", least=2), beside(x, generated, "generated")
    x, t, g = _standardised(x, t, g)
    (n, d), m, rule = x.shape, len(g), _FITS[compat]

    order = torch.from_numpy(np.random.default_rng([seed, 0x666C]).permutation(n)).to(x.device)
    centres, rest = x[order[: min(m, n // 2)]], x[order[n // 2 :]]
    variance, _ = _bandwidths(centres, rest, rule)
    (base_test, pull_base), (base_rest, _) = _nll(centres, variance, t), _nll(centres, variance, rest)
    variance, memorised = _bandwidths(g, x, rule)
    (nll_test, pull_test), (nll_train, pull_train) = _nll(g, variance, t), _nll(g, variance, x)

    def result(name: str, value: float, interval: Any, floor: float | None, per_sample: Any) -> Result:
        text = signature(name, compat=compat, d=d, train=n, test=len(t), generated=m, seed=seed)
        return Result(value, interval, floor, per_sample, (len(t), m), seed, text)

    parts = 100.0 * (nll_test - base_test)
    on_train = 100.0 * (nll_train - base_test.mean())
    value, value_train = float(parts.mean()), float(on_train.mean())
    base = _variance(100.0 * pull_base)
    error = math.sqrt(_variance(parts) + _variance(100.0 * pull_test) + base)
    error_train = math.sqrt(_variance(on_train) + _variance(100.0 * pull_train) + base)
    both = _variance(100.0 * nll_test) + _variance(on_train) + _variance(100.0 * (pull_test - pull_train))
    gap = value - value_train
    floor = 100.0 * float(base_test.mean() - base_rest.mean())
    return FeatureLikelihood(
        result("fld", value, normal_interval(value, error), 0.0, parts),
        result("fld_train", value_train, normal_interval(value_train, error_train), None, None),
        result("fld_gap", gap, normal_interval(gap, math.sqrt(both)), floor, memorised),
    )


def _variance(values: np.ndarray) -> float:
    """Of the mean of independent values."""
    return float(values.var(ddof=1)) / len(values) if len(values) > 1 else 0.0


def _standardised(x: Tensor, t: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(· − mean of test)/(deviation of test), without the features that are constant in train and test."""
    scale = t.std(0)
    scale = torch.where(scale > 0, scale, torch.cat([x, t]).std(0))
    kept = scale > 0
    if not bool(kept.any()):
        raise CallError("all features are constant in train and test, so that they measure nothing")
    mean = t.mean(0)
    return tuple(((s - mean) / scale)[:, kept] for s in (x, t, g))  # type: ignore[return-value]


def _bandwidths(centres: Tensor, x: Tensor, rule: _Fit) -> tuple[Tensor, np.ndarray]:
    """σ_j² (m,) that maximise Σ_i log(1/m Σ_j N(x_i; g_j, σ_j²) + N(x_i; x̄, σ₀²)) and, per centre, its
    largest log-likelihood of one x per feature."""
    m, d = centres.shape
    smallest = torch.full((m,), math.inf, dtype=torch.float64, device=x.device)
    keep = len(x) * m <= _CACHE
    blocks = list(_blocks(x, centres)) if keep else None
    for _, d2 in blocks or _blocks(x, centres):
        smallest = torch.minimum(smallest, d2.amin(0))
    # The best σ² for the nearest x alone is d²/d. The wide Gaussian starts at 1; a tenth of each x is drawn
    # to the mean, as in the authors' code, so that it cannot shrink to a point.
    wide2 = 0.9**2 * (x - x.mean(0)).square().sum(1, keepdim=True)
    log_s = torch.cat([((smallest + 1e-3) / d).log(), smallest.new_zeros(1)])
    adam = torch.optim.Adam([log_s], lr=0.5)
    before = -math.inf
    for _ in range(rule.iterations):
        owned, moment, total = torch.zeros_like(log_s), torch.zeros_like(log_s), 0.0
        for rows, d2 in blocks or _blocks(x, centres):
            every = torch.cat([d2, wide2[rows]], 1)
            log_p = _log_normal(every, log_s, d)
            log_p[:, :-1] -= math.log(m)
            log_sum = torch.logsumexp(log_p, 1, keepdim=True)
            part = (log_p - log_sum).exp_()  # r_ij: the share of Gaussian j in x_i
            owned += part.sum(0)
            moment += (part * every).sum(0)
            total += float(log_sum.sum())
        if rule.adam:
            # ∂(−L/Nd)/∂ log σ_j² = Σ_i r_ij (1/2 − d_ij²/(2 d σ_j²)) / N
            log_s.grad = (0.5 * owned - 0.5 * moment / (d * log_s.exp())) / len(x)
            adam.step()
        else:  # EM: σ_j² = Σ_i r_ij d_ij² / (d Σ_i r_ij); a Gaussian that owns nothing stays as it is
            log_s = torch.where(owned > 1e-300, (moment / (d * owned.clamp(min=1e-300))).log(), log_s)
        with torch.no_grad():
            log_s.clamp_(math.log(rule.smallest), math.log(rule.largest))
        reached = total / (len(x) * d)
        if not rule.adam and reached - before < _ENOUGH:
            break
        before = reached
    log_s = log_s[:-1]
    return log_s.exp(), (_log_normal(smallest, log_s, d) / d).cpu().numpy()


def _nll(centres: Tensor, variance: Tensor, x: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """−log p(x)/d of every row (len(x),), and the influence of every centre on their mean (m,).

    The influence of g_j on mean log p is m · mean_i r_ij − 1, r_ij its share of p(x_i): what the choice of
    the centres adds to the variance.
    """
    m, d = centres.shape
    log_s = variance.log()
    parts, owned = [], torch.zeros_like(log_s)
    for _, d2 in _blocks(x, centres):
        log_p = _log_normal(d2, log_s, d)
        parts.append(torch.logsumexp(log_p, 1))
        owned += (log_p - parts[-1][:, None]).exp_().sum(0)
    nll = ((math.log(m) - torch.cat(parts)) / d).cpu().numpy()
    return nll, ((m / len(x) * owned - 1.0) / d).cpu().numpy()


def _log_normal(d2: Tensor, log_s: Tensor, d: int) -> Tensor:
    """log N of an isotropic Gaussian: −d²/(2σ²) − d/2 log 2πσ²."""
    return -0.5 * d2 / log_s.exp() - 0.5 * d * (log_s + math.log(2.0 * math.pi))


def _blocks(x: Tensor, centres: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Float64 squared distances of some rows of x to all centres."""
    step = max(1, _VALUES // len(centres))
    c2 = centres.square().sum(1)
    for i in range(0, len(x), step):
        rows = slice(i, min(i + step, len(x)))
        part = x[rows]
        yield rows, (part.square().sum(1, keepdim=True) + c2 - 2.0 * part @ centres.T).clamp_(min=0.0)

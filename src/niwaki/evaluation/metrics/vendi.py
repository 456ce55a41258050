"""Vendi score: how many different kinds a set of samples amounts to.

Friedman & Dieng, "The Vendi score: a diversity evaluation metric for machine learning", TMLR 2023
(https://arxiv.org/abs/2210.02410); of any order: Pasarkar & Dieng, "Cousins of the Vendi score", AISTATS 2024
(https://arxiv.org/abs/2310.12952).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from scipy.stats import t as student
from torch import Tensor

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.statistics.arrays import features
from niwaki.evaluation.statistics.result import Result, signature

__all__ = ["vendi_score"]

_KERNELS = ("cosine", "rbf")
_ROUND = 8 * 2.220446049250313e-16


def vendi_score(
    x: Any,
    *,
    order: float = 1.0,
    kernel: str = "cosine",
    bandwidth: float | None = None,
    groups: int = 20,
    seed: int = 0,
    block: int = 4096,
) -> Result:
    """exp of the Rényi entropy of the eigenvalues λ of K/n, K_ij = k(x_i, x_j): 1 (all alike) … n (nothing in
    common).

    x:         features (n, d), n ≥ 2
    order:     q ≥ 0 of (Σ λ^q)^{1/(1−q)}; 1 is the limit exp(−Σ λ log λ), 0 the rank, math.inf 1/λ_max. Small
               orders count rare kinds as much as common ones, large ones only the commonest
    kernel:    "cosine" on L2-normalised rows, or "rbf": exp(−‖x−y‖²/2·bandwidth²) on the rows as they are
    bandwidth: of "rbf", in the features' units
    groups:    of the delete-a-group jackknife that gives the interval, at most n/2: random by `seed`, as many
               decompositions more; 0 for no interval

    "cosine" with d < n takes its eigenvalues from the (d, d) matrix XᵀX/n, which has the same, summed by
    blocks; otherwise the (n, n) matrix is formed. Eigenvalues below rounding count as 0.

    per_sample t_i belongs to the samples of `x`: the number of kinds there would be if all were as rare as
    this one, ≥ 1. With s_i = x_iᵀΣ^{q−1}x_i (K/n in place of Σ for "rbf"), Σ λ^q is the mean of the s_i and
    t_i = s_i^{1/(1−q)}: the score is the power mean of the t_i of exponent 1 − q (geometric for q = 1,
    harmonic for q = 2). None for order ∞, where all are equal.

    The score grows with n: compare at equal n. The interval is of the score that n such samples have on
    average, on the scale of its logarithm; there is none for order 0 (the rank is not smooth). It has no
    floor of its own: a perfect generator scores what real samples do.
    Raises CallError for n < 2, a row of zeros under "cosine", a negative order, an unknown kernel, NaN.
    """
    if kernel not in _KERNELS:
        raise CallError(f"kernel '{kernel}' is not known; {nearest(kernel, _KERNELS)}")
    if not order >= 0:
        raise CallError(f"the order must be 0 or more, not {order}")
    if (kernel == "rbf") != (bandwidth is not None) or (
        bandwidth is not None and not 0 < bandwidth < math.inf
    ):
        raise CallError("the kernel 'rbf' needs a bandwidth above 0, and 'cosine' takes none")
    x = features(x, "sample", least=2, any_size=bandwidth is None)
    n = len(x)
    groups = min(groups, n // 2)
    if bandwidth is None and not bool(x.any(dim=1).all()):
        first = int((~x.any(dim=1)).nonzero()[0])
        raise CallError(f"sample {first} has only zeros as features, and no direction to compare; take 'rbf'")
    dual = bandwidth is None and x.shape[1] < n
    gram = _outer(x, block) if dual else _gram(x, bandwidth, block)
    values, vectors = _positive(*torch.linalg.eigh(gram / n))
    log_value = _log_score(values, order)
    # (u_k·x_i)², u_k the eigenvectors of Σ; in the eigenvectors v_k of K/n it is n λ_k v_ik².
    if dual:
        weights = _weights(values, order)
        scores = torch.cat([(part @ vectors).square() @ weights for part in _unit_rows(x, block)])
    else:
        scores = n * (vectors.square() @ (values * _weights(values, order)))
    log_scores = _samples(scores, log_value, order)
    interval = None
    if order > 0 and groups > 1:
        group = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).to(x.device) % groups
        without = []
        for g in range(groups):
            drop = group == g
            rest = gram - _outer(x[drop], block) if dual else gram[~drop][:, ~drop]
            remaining = torch.linalg.eigvalsh(rest / int((~drop).sum()))
            without.append(_log_score(_positive(remaining)[0], order))
        centre = sum(without) / groups
        error = math.sqrt((groups - 1) / groups * sum((v - centre) ** 2 for v in without))
        width = float(student.isf(0.025, groups - 1)) * error
        interval = (max(1.0, math.exp(log_value - width)), min(float(n), math.exp(log_value + width)))
    per_sample = None if log_scores is None else log_scores.exp().cpu().numpy()
    text = signature(
        "vendi",
        order=f"{order:g}",
        kernel=kernel,
        bandwidth=bandwidth,
        d=x.shape[1],
        n=n,
        jackknife=groups if interval else None,
    )
    return Result(math.exp(log_value), interval, None, per_sample, (0, n), seed if interval else None, text)


def _unit_rows(x: Tensor, block: int) -> Iterator[Tensor]:
    """L2-normalised rows, by blocks; divided by their largest value first, so that no square overflows."""
    for part in x.split(block):
        part = part / part.abs().amax(1, keepdim=True)
        yield part / part.norm(dim=1, keepdim=True)


def _outer(x: Tensor, block: int) -> Tensor:
    """Σ x xᵀ of the unit rows (d, d): nΣ, with the eigenvalues of K."""
    out = torch.zeros((x.shape[1], x.shape[1]), dtype=x.dtype, device=x.device)
    for part in _unit_rows(x, block):
        out.addmm_(part.T, part)
    return out


def _gram(x: Tensor, bandwidth: float | None, block: int) -> Tensor:
    """K (n, n)."""
    if bandwidth is None:
        unit = torch.cat(list(_unit_rows(x, block)))
        return unit @ unit.T
    out = torch.empty((len(x), len(x)), dtype=x.dtype, device=x.device)
    for i in range(0, len(x), block):
        distance = torch.cdist(x[i : i + block], x, compute_mode="donot_use_mm_for_euclid_dist")
        out[i : i + block] = distance.div_(bandwidth).square_().mul_(-0.5).exp_()
    return out


def _positive(values: Tensor, vectors: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Without the eigenvalues that are 0: rounding leaves ε·n·λ_max of them, which a small order would blow
    up."""
    kept = values > _ROUND * max(32, len(values)) * float(values[-1])
    return values[kept], (values if vectors is None else vectors[:, kept])


def _log_score(values: Tensor, order: float) -> float:
    """Rényi entropy of rising eigenvalues with the sum 1."""
    top = values[-1]
    if _is_one(order):
        return float(-(values * values.log()).sum())
    if math.isinf(order):
        return -float(top.log())
    # By λ/λ_max: high powers of λ itself would underflow.
    return float((order * top.log() + ((values / top) ** order).sum().log()) / (1.0 - order))


def _weights(values: Tensor, order: float) -> Tensor:
    """f(λ) of s_i = Σ_k f(λ_k) (u_k·x_i)²: −log λ, or λ^{q−1}/λ_max^q, so that nothing underflows."""
    top = values[-1]
    if _is_one(order):
        return -values.log()
    if math.isinf(order):
        return (values == top).to(values) / top
    return (values / top) ** (order - 1.0) / top


def _samples(scores: Tensor, log_value: float, order: float) -> Tensor | None:
    """log t_i (n,)."""
    if math.isinf(order):
        return None
    if _is_one(order):
        return scores
    # s_i without λ_max^q, whose mean is known: log t_i = log s_i/(1−q) is taken relative to the score.
    return log_value + (scores / scores.mean()).log() / (1.0 - order)


def _is_one(order: float) -> bool:
    """Near 1 the limit is as exact as the formula, which divides by 1 − q."""
    return abs(order - 1.0) < 1e-8

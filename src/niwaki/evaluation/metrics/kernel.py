"""Kernel distance: squared maximum mean discrepancy with a polynomial kernel, unbiased.

Bińkowski et al., "Demystifying MMD GANs", ICLR 2018 (https://arxiv.org/abs/1801.01401).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.pairwise.kernel_sums import check_scale
from niwaki.evaluation.pairwise.mmd import Kernel, discrepancy, permuted
from niwaki.evaluation.statistics.arrays import pair
from niwaki.evaluation.statistics.result import Result, signature

__all__ = ["KernelSubsets", "KernelTest", "kernel_distance", "kernel_test", "polynomial"]

_COMPAT = ("clean-fid", "torch-fidelity")


@dataclass(frozen=True)
class KernelSubsets(Result):
    """The mean over subsets, with what it is the mean of.

    subsets: kernel distance of each subset, (subsets,); the references quote subsets.std() beside the mean,
             which tells the size of the subsets and is no error of the mean
    """

    subsets: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True)
class KernelTest:
    """Are the two sets of one distribution?

    distance: kernel distance with its analytic interval
    p_value:  share of label exchanges with a distance at least as large, (1 + count)/(1 + permutations):
              exact at any sample size, while the interval is normal
    null:     the distances of the exchanged labels (permutations,)
    """

    distance: Result
    p_value: float
    null: np.ndarray = field(repr=False, compare=False)


def kernel_distance(
    real: Any,
    generated: Any,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    subsets: int = 0,
    subset_size: int = 1000,
    seed: int = 0,
    compat: str | None = None,
    block: int = 2048,
) -> Result:
    """MMD² = E k(x,x') + E k(y,y') − 2 E k(x,y), k(x,y) = (γ x·y + c)^degree with γ = 1/d.

    real, generated: features (n, d), n ≥ 4
    subsets:         0 takes the U-statistic of all samples. More: the mean over that many subsets of both
                     sets, as published figures are made; noisier, and never more exact
    subset_size:     samples of each set in a subset, without replacement, at most all
    seed:            of the subsets
    compat:          whose subsets: "torch-fidelity" draws indices of real, then of generated (its inputs 1
                     and 2) from numpy's RandomState(seed), its own seed being 2020, and refuses subsets
                     larger than a set; "clean-fid" draws those of generated first. Both take 100 unless told.
    block:           rows of the kernel matrix worked on at once; memory is block²
    Unbiased, so it may be below 0: the diagonals of real-real and generated-generated are left out, all of
    real-generated is kept. The floor is 0. The interval is analytic, corrected for skewness; with subsets it
    also holds the noise of their choice. `per_sample` is the witness of each generated sample: how much more
    it resembles the other generated ones than the real ones. With subsets the result is a `KernelSubsets`.
    Raises CallError for fewer than four samples, differing widths, NaN, an unknown `compat`.
    """
    if compat is not None and compat not in _COMPAT:
        raise CallError(f"compat '{compat}' is not known; {nearest(compat, list(_COMPAT))}")
    kernel, text, x, y = _prepare(real, generated, degree, gamma, coef)
    n, m = len(x), len(y)
    settings: dict[str, Any] = {"kernel": text, "estimator": "u", "d": x.shape[1], "real": n, "generated": m}
    found = discrepancy(x, y, kernel, block)
    witness = found.witness.cpu().numpy()
    if not subsets and compat is None:
        text = signature("kernel", **settings)
        return Result(found.value, found.interval(), 0.0, witness, (n, m), None, text)
    count = subsets or 100
    size = subset_size if compat == "torch-fidelity" else min(subset_size, n, m)
    if count < 2 or not 2 <= size <= min(n, m):
        raise CallError(
            f"subsets must be at least 2 of 2 … {min(n, m)} samples, not {count} of {subset_size} samples"
        )
    values = np.array([_subset(x[i], y[j], kernel) for i, j in _draws(n, m, count, size, seed, compat)])
    # Given the samples, the subsets are independent draws around the U-statistic of all of them.
    value = float(values.mean())
    low, high = found.interval(extra=float(values.std(ddof=1)) / math.sqrt(count))
    interval = (low + value - found.value, high + value - found.value)
    text = signature("kernel", **settings, subsets=f"{count}x{size}", seed=seed, compat=compat)
    return KernelSubsets(value, interval, 0.0, witness, (n, m), seed, text, values)


def kernel_test(
    real: Any,
    generated: Any,
    *,
    permutations: int = 199,
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    seed: int = 0,
    block: int = 2048,
) -> KernelTest:
    """Permutation test of equal distributions by the kernel distance; see `kernel_distance` for the rest.

    All label exchanges share one pass over the pairs: a product of each block with (samples, permutations).
    """
    if permutations < 1:
        raise CallError(f"permutations must be at least 1, not {permutations}")
    kernel, _, x, y = _prepare(real, generated, degree, gamma, coef)
    observed, null = permuted(x, y, kernel, block, count=permutations, seed=seed)
    p_value = float(1 + (null >= observed - 1e-12 * np.abs(null).max()).sum()) / (1 + permutations)
    settings: dict[str, Any] = {"degree": degree, "gamma": gamma, "coef": coef, "block": block}
    return KernelTest(kernel_distance(x, y, **settings), p_value, null)


def polynomial(degree: int, scale: float, coef: float) -> Kernel:
    """(scale·x·y + coef)^degree; by products, because a general power takes ten times as long."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        base = (x @ y.T).mul_(scale).add_(coef)
        out = base.clone() if degree > 1 else base
        for _ in range(degree - 1):
            out *= base
        return out

    return kernel


def _prepare(
    real: Any, generated: Any, degree: int, gamma: float | None, coef: float
) -> tuple[Kernel, str, Tensor, Tensor]:
    """The kernel, its formula, and both sets."""
    if degree < 1:
        raise CallError(f"the kernel's degree must be at least 1, not {degree}")
    x, y = pair(real, generated, least=4)
    scale = 1.0 / x.shape[1] if gamma is None else gamma
    check_scale(max(float(v.square().sum(1).max()) for v in (x, y)), scale, coef, degree)
    return polynomial(degree, scale, coef), f"({scale:.6g}·x·y+{coef:g})^{degree}", x, y


def _draws(
    n: int, m: int, count: int, size: int, seed: int, compat: str | None
) -> list[tuple[Tensor, Tensor]]:
    """Indices of the real and of the generated samples of each subset."""
    out = []
    legacy, rng = np.random.RandomState(seed), np.random.default_rng(seed)
    for _ in range(count):
        if compat == "clean-fid":
            j, i = legacy.choice(m, size, replace=False), legacy.choice(n, size, replace=False)
        elif compat == "torch-fidelity":
            i, j = legacy.choice(n, size, replace=False), legacy.choice(m, size, replace=False)
        else:
            i, j = rng.choice(n, size, replace=False), rng.choice(m, size, replace=False)
        out.append((torch.from_numpy(i), torch.from_numpy(j)))
    return out


def _subset(x: Tensor, y: Tensor, kernel: Kernel) -> float:
    """The U-statistic of two sets of one size: Σ_{i≠j} (k(xᵢ,xⱼ) + k(yᵢ,yⱼ))/s(s−1) − 2 Σ k(xᵢ,yⱼ)/s²."""
    s = len(x)
    within = kernel(x, x).fill_diagonal_(0.0).sum() + kernel(y, y).fill_diagonal_(0.0).sum()
    return float(within / (s * (s - 1)) - 2.0 * kernel(x, y).mean())

"""CMMD: squared maximum mean discrepancy with a Gaussian kernel on directions, made for CLIP embeddings.

Jayasumana et al., "Rethinking FID: towards a better evaluation metric for image generation", CVPR 2024
(https://arxiv.org/abs/2401.09603).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.pairwise.mmd import Kernel, discrepancy
from niwaki.evaluation.statistics.arrays import pair
from niwaki.evaluation.statistics.result import Result, at_least_zero, signature

__all__ = ["cmmd", "cmmd_of", "directions"]


def cmmd(
    real: Any,
    generated: Any,
    *,
    sigma: float = 10.0,
    scale: float = 1000.0,
    compat: str | None = None,
    block: int = 2048,
) -> Result:
    """scale · (E k(x,x') + E k(y,y') − 2 E k(x,y)), k(x,y) = exp(−‖x−y‖²/2σ²), rows of length 1.

    real, generated: features (n, d), n ≥ 4; each row is divided by its length
    sigma:           width of the kernel. At 10 it is nearly linear: distances of directions are at most 2
    scale:           a factor that makes the number readable
    compat:          None is the unbiased U-statistic with its analytic interval, floor 0. "google" is the
                     reference's V-statistic: it keeps the diagonals, where k = 1, and is therefore never
                     below 0 and biased by (1 − E k(x,x'))/n + (1 − E k(y,y'))/m, which is its floor where the
                     distributions are equal; it has no interval, because that would be one around the bias.
                     (The reference computes in float32; this is its formula in float64.)
    block:           rows of the kernel matrix worked on at once; memory is block²
    `per_sample` is the witness of each generated sample, times scale: how much more it resembles the other
    generated ones than the real ones.
    Raises CallError for fewer than four samples, differing widths, NaN, a row of zeros, σ or scale not above
    0, an unknown `compat`.
    """
    if compat not in (None, "google"):
        raise CallError(f"compat '{compat}' is not known; {nearest(str(compat), ['google'])}")
    if not (sigma > 0 and scale > 0):
        raise CallError(f"sigma and scale must be above 0, not {sigma} and {scale}")
    x, y = pair(real, generated, least=4, any_size=True)
    x, y = directions(x, "real"), directions(y, "generated")
    n, m = len(x), len(y)
    found = discrepancy(x, y, _gaussian(sigma), block)
    text = _text(sigma, scale, x.shape[1], (n, m), compat)
    witness = scale * found.witness.cpu().numpy()
    if compat is None:
        value = scale * found.value
        low, high = found.interval()
        return Result(value, (scale * low, scale * high), 0.0, witness, (n, m), None, text)
    # V = U + (1 − mean_{i≠j} k(xᵢ,xⱼ))/n + (1 − mean_{i≠j} k(yᵢ,yⱼ))/m, because k(x,x) = 1
    value = found.value + (1.0 - found.within_x) / n + (1.0 - found.within_y) / m
    floor = (1.0 - found.within_x) * (1.0 / n + 1.0 / m)
    return Result(scale * at_least_zero(value), None, scale * floor, witness, (n, m), None, text)


def cmmd_of(swept: Result, d: int, *, sigma: float = 10.0, scale: float = 1000.0) -> Result:
    """The same from what the sweep found for the kernel `RBF(sigma)` of d features (`gram_metrics`)."""
    low, high = swept.interval or (-math.inf, math.inf)
    witness = None if swept.per_sample is None else scale * swept.per_sample
    text = _text(sigma, scale, d, swept.n)
    return Result(scale * swept.value, (scale * low, scale * high), 0.0, witness, swept.n, None, text)


def _text(sigma: float, scale: float, d: int, n: tuple[int, int], compat: str | None = None) -> str:
    return signature(
        "cmmd", sigma=f"{sigma:g}", scale=f"{scale:g}", estimator="v" if compat else "u", d=d, real=n[0],
        generated=n[1], compat=compat,
    )  # fmt: skip


def directions(x: Tensor, role: str) -> Tensor:
    """Rows divided by their lengths. Raises CallError for a row of zeros."""
    largest = x.abs().amax(1, keepdim=True)
    empty = largest[:, 0] == 0
    if bool(empty.any()):
        raise CallError(
            f"{int(empty.sum())} of the {role} features are all zeros and have no direction, the first in "
            f"row {int(empty.nonzero()[0])}"
        )
    x = x / largest  # neither overflow nor underflow in the squares
    return x / x.square().sum(1, keepdim=True).sqrt()


def _gaussian(sigma: float) -> Kernel:
    """exp(−‖x−y‖²/2σ²) of rows of length 1, where ‖x−y‖² = 2 − 2x·y."""

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return torch.exp_((x @ y.T).sub_(1.0).mul_(1.0 / sigma**2))

    return kernel

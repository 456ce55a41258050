"""Bits per dimension: the length of a lossless code for the data, from a model's densities.

Theis, van den Oord & Bethge, "A note on the evaluation of generative models", ICLR 2016, section 3.1
(https://arxiv.org/abs/1511.01844).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.statistics.arrays import Tensor
from niwaki.evaluation.statistics.result import Result, mean_interval, signature

__all__ = ["bits_per_dim"]


def bits_per_dim(
    log_prob: Any,
    *,
    dims: int,
    levels: int | None = 256,
    span: float = 2.0,
    compat: str | None = None,
) -> Result:
    """−log₂ P(x)/dims of test data, lower is better; log₂ levels is what a uniform model scores.

    log_prob: log densities in nats (n,), of data in the spec's value range, dequantised by noise of one step
    dims:     values in one sample (spec.size)
    levels:   grey levels of the stored data; None for continuous data or a model of probabilities, not
              densities: then the densities are taken as they are and −log₂ p/dims may be negative
    span:     width of the value range, high − low
    compat:   None: level 0 stands at `low` and the last at `high`, a step is span/(levels − 1);
              "glow" (Dinh 2017, Kingma & Dhariwal 2018): dequantised levels (v + u)/levels fill the range, a
              step is span/levels

    A level holds P(x) = ∫ p over a cell of steps, and log P ≥ E_u log p(x + u) + dims·log step (Jensen), so
    that the value is −log_prob/(dims·ln 2) − log₂ step: an upper bound of the code length, and still one if
    `log_prob` is itself a lower bound (VAE, diffusion). Without noise in the data the number means nothing:
    a density may be as large as one likes on a grid.
    per_sample (n,) belongs to the test samples; there is no floor, the data's entropy being unknown.
    Raises CallError for NaN, ±infinity (a density of 0 has no code), dims < 1, levels < 2, an unknown compat.
    """
    if compat not in (None, "glow"):
        raise CallError(f"compat '{compat}' is not known; {nearest(compat, ['glow'])}")
    if dims < 1:
        raise CallError(f"dims must be at least 1, not {dims}")
    if levels is not None and (levels < 2 or not 0 < span < math.inf):
        raise CallError(f"there must be 2 or more levels in a range above 0, not {levels} in {span}")
    array = log_prob.detach().cpu().double().numpy() if isinstance(log_prob, Tensor) else np.asarray(log_prob)
    if array.ndim != 1 or len(array) < 2 or array.dtype.kind not in "iuf":
        raise CallError(f"log_prob must be numbers (n,), two or more, not {array.dtype} {array.shape}")
    array = array.astype(np.float64)
    bad = ~np.isfinite(array)
    if bad.any():
        first = int(bad.argmax())
        what = f"{int(bad.sum())} log densities are not finite"
        raise CallError(f"{what}, the first is {array[first]} of sample {first}")
    step = 1.0 if levels is None else span / (levels if compat else levels - 1)
    bits = -array / (dims * math.log(2.0)) - math.log2(step)
    text = signature(
        "bits_per_dim",
        dims=dims,
        levels=levels,
        span=f"{span:g}" if levels is not None else None,
        compat=compat,
        n=len(bits),
    )
    return Result(float(bits.mean()), mean_interval(bits), None, bits, (len(bits), 0), None, text)

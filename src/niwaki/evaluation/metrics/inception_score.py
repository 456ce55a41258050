"""Inception score: are single samples of a clear class, and all of them together of many?

Salimans et al., "Improved techniques for training GANs", NeurIPS 2016 (https://arxiv.org/abs/1606.03498).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from torch import Tensor

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.statistics.arrays import features
from niwaki.evaluation.statistics.result import Result, signature

__all__ = ["InceptionScore", "inception_score"]

_SUM = 1e-4
"""How far the probabilities of a sample may be from adding up to 1 (float32 softmax is within 1e-6)."""
_COMPAT = ("torch-fidelity", "torchmetrics")


@dataclass(frozen=True)
class InceptionScore(Result):
    """The mean over the splits, with what it is the mean of.

    deviation: standard deviation of the splits' scores, ddof 0 as in the reference (1 for torchmetrics): what
               papers write behind ±
    splits:    score of each split
    """

    deviation: float
    splits: np.ndarray = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        return {**super().to_json(), "deviation": self.deviation, "splits": self.splits.tolist()}


def inception_score(
    probabilities: Any, *, splits: int = 10, seed: int | None = None, compat: str | None = None
) -> InceptionScore:
    """exp E KL(p(y|x) ‖ p(y)), in splits: 1 (all alike, or none of a clear class) … number of classes.

    probabilities: (n, classes) of the generated samples, each row ≥ 0 with sum 1 (± 1e-4)
    splits:        parts i·n//splits … (i+1)·n//splits, each with its own p(y); the value is their mean
    seed:          shuffles the samples first, None leaves their order; samples sorted by class need it, since
                   a split that lacks classes scores low
    compat:        None is the reference's definition. "torch-fidelity" differs by its shuffle alone, a
                   permutation by numpy's RandomState(seed) (its own seed is 2020, also here where none is
                   given). "torchmetrics" splits by torch's chunk (splits of ⌈n/splits⌉, perhaps fewer) and
                   takes ddof 1; its random shuffle is left to `seed`.
    Nothing is compared with real samples: there is no floor, and a model that gives one perfect sample per
    class scores highest. The interval is Student's over the splits. It grows with n: compare at equal n.
    `per_sample` is the divergence of each sample from its split's p(y), in nats.
    Raises CallError for other numbers of dimensions, rows that are no probabilities, fewer samples than
    splits, an unknown `compat`.
    """
    if compat is not None and compat not in _COMPAT:
        raise CallError(f"compat '{compat}' is not known; {nearest(compat, list(_COMPAT))}")
    p = _check(probabilities)
    n = len(p)
    if not 1 <= splits <= n:
        raise CallError(f"splits must be 1 … {n} for {n} samples, not {splits}")
    if compat == "torch-fidelity":
        seed = 2020 if seed is None else seed
        order = np.random.RandomState(seed).permutation(n)
    else:
        order = np.arange(n) if seed is None else np.random.default_rng(seed).permutation(n)
    p = p[torch.from_numpy(order).to(p.device)]
    if compat == "torchmetrics":
        parts = list(p.chunk(splits))
    else:
        parts = [p[i * n // splits : (i + 1) * n // splits] for i in range(splits)]
    divergences = [_divergence(part) for part in parts]
    scores = np.array([math.exp(float(d.mean())) for d in divergences])
    value, count = float(scores.mean()), len(scores)
    interval = None
    if count > 1:
        half = float(student.ppf(0.975, count - 1)) * float(scores.std(ddof=1)) / math.sqrt(count)
        interval = (max(1.0, value - half), min(float(p.shape[1]), value + half))
    ddof = int(compat == "torchmetrics" and count > 1)
    per_sample = np.empty(n)
    per_sample[order] = torch.cat(divergences).cpu().numpy()
    text = signature(
        "inception", splits=count, ddof=ddof, classes=p.shape[1], generated=n, seed=seed, compat=compat
    )
    deviation = float(scores.std(ddof=ddof))
    return InceptionScore(value, interval, None, per_sample, (0, n), seed, text, deviation, scores)


def _check(probabilities: Any) -> Tensor:
    ndim = getattr(probabilities, "ndim", None) or np.ndim(probabilities)
    if ndim != 2:
        raise CallError(f"class probabilities must be an array (samples, classes), not of {ndim} dimensions")
    p = features(probabilities, "class probability")
    wrong = ((p < 0).any(1) | ((p.sum(1) - 1.0).abs() > _SUM)).nonzero()[:, 0]
    if len(wrong):
        row = int(wrong[0])
        raise CallError(
            f"{len(wrong)} rows are no class probabilities (row {row} has the sum {float(p[row].sum()):.6g} "
            f"and the minimum {float(p[row].min()):.3g}); pass softmax(logits), computed in float32"
        )
    return p


def _divergence(p: Tensor) -> Tensor:
    """KL(p(y|x) ‖ p(y)) of each row, p(y) the mean of the rows; 0·log 0 = 0."""
    marginal = p.mean(0, keepdim=True)
    return (torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(1)

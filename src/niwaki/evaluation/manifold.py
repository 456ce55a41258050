"""Neighbour metrics: how much of the generated lies where the real is, and how much of the real is reached.

Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models", NeurIPS 2019
(https://arxiv.org/abs/1904.06991); Naeem et al., "Reliable fidelity and diversity metrics for generative
models", ICML 2020 (https://arxiv.org/abs/2002.09797); Salvy, Talbot & Thirion, "Enhanced generative model
evaluation with Clipped Density and Coverage", 2025 (https://arxiv.org/abs/2507.01761); Han et al., "Rarity
score", ICLR 2023
(https://arxiv.org/abs/2206.08549).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.contract import CallError, nearest
from niwaki.evaluation.arrays import pair
from niwaki.evaluation.closed_forms import clipped_coverage_share, expected_coverage
from niwaki.evaluation.result import Result, mean_interval, signature, wilson
from niwaki.evaluation.sweep import Nearest, Pairs, Smallest

__all__ = ["Manifold", "Neighbours", "manifold"]


@dataclass(frozen=True)
class _Convention:
    """Where the references differ. strict: `<` or `≤`; eps and squared: of the realism score."""

    strict: bool
    eps: float = 0.0
    squared: bool = False


_CONVENTIONS = {
    None: _Convention(strict=True),
    "prdc": _Convention(strict=True),
    "kynkaat": _Convention(strict=False, eps=1e-5, squared=True),
}


@dataclass(frozen=True)
class Neighbours:
    """The nearest sample of the other set: indices int64 and distances float64.

    real_index, real_distance:           of each generated sample's nearest real one (n generated,)
    generated_index, generated_distance: of each real sample's nearest generated one (n real,)
    radius:                              distance of each real sample to its k-th real neighbour (n real,)
    inside:                              how many generated samples each real ball holds (n real,)
    """

    real_index: np.ndarray
    real_distance: np.ndarray
    generated_index: np.ndarray
    generated_distance: np.ndarray
    radius: np.ndarray
    inside: np.ndarray


@dataclass(frozen=True)
class Manifold:
    """Fidelity: precision, density, clipped_density, realism. Diversity: recall, coverage, clipped_coverage.

    `per_sample` belongs to the generated samples, but to the real ones for recall, coverage and clipped
    coverage. Intervals are over the samples that are averaged, the other set held fixed.
    """

    precision: Result
    recall: Result
    density: Result
    coverage: Result
    clipped_density: Result
    clipped_coverage: Result
    realism: Result
    rarity: Result
    nearest: Neighbours

    def results(self) -> dict[str, Result]:
        """The numbers by name, without `nearest`."""
        return {k: v for k, v in vars(self).items() if isinstance(v, Result)}


def manifold(
    real: Any, generated: Any, k: int = 5, compat: str | None = None, *, block: int = 2048
) -> Manifold:
    """All neighbour metrics from one pass over the pairs.

    real, generated: features (n, d), n > k
    k:               the ball of a sample reaches to its k-th neighbour in its own set, itself excluded
    compat:          None and "prdc" count a sample as inside where distance < radius; "kynkaat" where ≤ (its
                     own default is k = 3), with its realism r²/(d² + 1e-5)
    block:           side of a block of pairs; memory is a few times block² float32

    precision         share of generated inside any real ball
    recall            share of real inside any generated ball
    density           real balls around a generated sample / k: 1 expected for a perfect generator
    coverage          share of real balls that hold a generated sample
    clipped_density   radii at most their median, at most k balls counted, divided by what a left-out real
                      sample gets
    clipped_coverage  share of good samples that explains the counts (capped at k) in the real balls
    realism           max r/d over the real balls with radius ≤ median, ∞ on a real sample; value: the median
    rarity            radius of the smallest real ball around it, 0 outside; value: mean over those inside
    Raises CallError for n ≤ k, differing widths, NaN, an unknown `compat`.
    """
    if compat not in _CONVENTIONS:
        names = [c for c in _CONVENTIONS if c]
        raise CallError(f"compat '{compat}' is not known; {nearest(str(compat), names)}")
    if k < 1:
        raise CallError(f"k must be at least 1, not {k}")
    x, y = pair(real, generated, least=k + 1)
    rule = _CONVENTIONS[compat]
    own = Pairs(x, block=block).nearest(k)
    if not bool((own.d2[:, -1] > 0).any()):
        raise CallError(f"every real sample has {k} copies of itself, so that its ball holds nothing")
    counts = _count(x, y, own, Pairs(y, block=block).nearest(k).d2[:, -1], rule, k, block)
    return _results(counts, own, k, compat, x.shape[1])


@dataclass
class _Counts:
    """What the pass over the real-generated pairs adds up."""

    inside: Tensor  # (N,) generated in each real ball
    around: Tensor  # (M,) real balls around each generated
    clipped: Tensor  # (M,) the same with clipped radii
    recalled: Tensor  # (N,) inside any generated ball
    rarity2: Tensor  # (M,) smallest squared radius around it, ∞ outside
    realism: Tensor  # (M,)
    to_real: Nearest
    to_generated: Nearest


def _count(
    x: Tensor, y: Tensor, own: Nearest, radius2_y: Tensor, rule: _Convention, k: int, block: int
) -> _Counts:
    device, n, m = x.device, len(x), len(y)
    pairs = Pairs(x, y, block=block)
    radius2 = own.d2[:, -1]
    clipped2 = radius2.clamp(max=_median(radius2.sqrt()) ** 2)
    kept = _kept(radius2)
    inside = torch.zeros(n, dtype=torch.int64, device=device)
    around, clipped = (torch.zeros(m, dtype=torch.int64, device=device) for _ in range(2))
    recalled = torch.zeros(n, dtype=torch.bool, device=device)
    rarity2 = torch.full((m,), math.inf, dtype=torch.float64, device=device)
    to_real = Smallest(m, n, 1, device, transposed=True)
    to_generated = Smallest(n, m, 1, device)
    ratio = Smallest(m, n, 1, device, transposed=True)
    inverse = torch.where(kept & (radius2 > 0), 1.0 / radius2, math.inf)
    for part in pairs.blocks():
        rows, columns = part.rows, part.columns
        hit = pairs.inside(part, radius2[rows, None], rule.strict)
        inside[rows] += hit.sum(1)
        around[columns] += hit.sum(0)
        smallest = torch.where(hit, radius2[rows, None], math.inf).amin(0)
        rarity2[columns] = torch.minimum(rarity2[columns], smallest)
        clipped[columns] += pairs.inside(part, clipped2[rows, None], rule.strict).sum(0)
        recalled[rows] |= pairs.inside(part, radius2_y[None, columns], rule.strict).any(1)
        lower = part.lower()
        to_generated.add(lower, rows, columns)
        to_real.add(lower.T, columns, rows)
        # Ranked by the lower bound of (d² + ε)/r², rounded down: the candidates hold the largest r²/(d² + ε).
        scaled = (lower.double() + rule.eps) * inverse[rows, None] * (1.0 - 1e-6)
        ratio.add(scaled.nan_to_num(nan=math.inf).float().T, columns, rows)
    realism = _realism(ratio, pairs, radius2, kept, rule)
    return _Counts(
        inside, around, clipped, recalled, rarity2, realism, to_real.finish(pairs), to_generated.finish(pairs)
    )


def _realism(ratio: Smallest, pairs: Pairs, radius2: Tensor, kept: Tensor, rule: _Convention) -> Tensor:
    """max r/d over the kept balls, per generated sample; a ball of radius 0 reaches nothing."""

    def score(column: Tensor, row: Tensor) -> Tensor:
        r2 = torch.where(kept[row], radius2[row], 0.0)
        d2 = pairs.exact(row, column) + rule.eps
        return torch.where(r2 > 0, r2 / d2, 0.0)

    m, keep = ratio.index.shape
    column = torch.arange(m, device=radius2.device)
    best = score(column.repeat_interleave(keep), ratio.index.flatten()).view(m, keep).amax(1)
    if not ratio.complete:
        everything = torch.arange(len(radius2), device=radius2.device)
        # 1/best is the smallest (d² + ε)/r² found; a ball that was not looked at has at least the last lower
        # bound.
        for j in (1.0 / best > ratio.lower[:, -1].double()).nonzero()[:, 0].tolist():
            best[j] = score(column[j].expand(len(everything)), everything).amax()
    return best if rule.squared else best.sqrt()


def _kept(radius2: Tensor) -> Tensor:
    """Balls no larger than the median: the large ones belong to outliers (Kynkäänniemi et al., section 5)."""
    return radius2.sqrt() <= _median(radius2.sqrt())


def _median(values: Tensor) -> float:
    """numpy's median: the mean of the two middle values (torch takes the lower)."""
    return float(np.median(values.cpu().numpy()))


def _results(counts: _Counts, own: Nearest, k: int, compat: str | None, d: int) -> Manifold:
    radius = own.d2[:, -1].sqrt()
    n, m = len(counts.inside), len(counts.around)
    inside, around, clipped = (_numpy(t) for t in (counts.inside, counts.around, counts.clipped))
    sizes, settings = (
        (n, m),
        {"k": k, "inside": "≤" if compat == "kynkaat" else "<", "compat": compat, "d": d},
    )

    def share(name: str, hits: np.ndarray, floor: float | None = None) -> Result:
        hits = hits.astype(np.float64)
        return Result(
            float(hits.mean()), wilson(hits.sum(), len(hits)), floor, hits, sizes, None, _sign(name)
        )

    def mean(name: str, values: np.ndarray, floor: float | None) -> Result:
        return Result(float(values.mean()), mean_interval(values), floor, values, sizes, None, _sign(name))

    def _sign(name: str) -> str:
        return signature(name, **settings, real=n, generated=m)

    # A left-out real sample lies in the ball of each real one that counts it among its k nearest (without it
    # that ball would reach further), unless the median cuts the ball short.
    within = own.d2.sqrt() <= _median(radius)
    left_out = float(torch.bincount(own.index[within], minlength=n).clamp(max=k).double().mean()) / k
    clipped_density = mean("clipped_density", np.minimum(clipped, k) / (k * left_out), 1.0)
    low, high = clipped_density.interval or (0.0, 1.0)
    clipped_density = replace(
        clipped_density, value=min(1.0, clipped_density.value), interval=(min(1.0, low), min(1.0, high))
    )
    capped = np.minimum(inside, k) / k
    low, high = mean_interval(capped)
    share_of = [clipped_coverage_share(v, n, m, k) for v in (float(capped.mean()), low, high)]
    clipped_coverage = Result(
        share_of[0], (share_of[1], share_of[2]), 1.0, capped, sizes, None, _sign("clipped_coverage")
    )
    realism = _numpy(counts.realism)
    rarity = _numpy(torch.where(counts.rarity2.isfinite(), counts.rarity2.sqrt(), 0.0))
    found = rarity[around > 0]
    return Manifold(
        precision=share("precision", around > 0),
        recall=share("recall", _numpy(counts.recalled)),
        density=mean("density", around / k, 1.0),
        coverage=share("coverage", inside > 0, expected_coverage(n, m, k)),
        clipped_density=clipped_density,
        clipped_coverage=clipped_coverage,
        realism=Result(float(np.median(realism)), None, None, realism, sizes, None, _sign("realism")),
        rarity=Result(
            float(found.mean()) if len(found) else 0.0, None, None, rarity, sizes, None, _sign("rarity")
        ),
        nearest=Neighbours(
            real_index=_numpy(counts.to_real.index[:, 0]),
            real_distance=_numpy(counts.to_real.d2[:, 0].sqrt()),
            generated_index=_numpy(counts.to_generated.index[:, 0]),
            generated_distance=_numpy(counts.to_generated.d2[:, 0].sqrt()),
            radius=_numpy(radius),
            inside=inside,
        ),
    )


def _numpy(t: Tensor) -> np.ndarray:
    return t.cpu().numpy()

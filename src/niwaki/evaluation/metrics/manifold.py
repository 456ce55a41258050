"""Neighbour metrics: how much of the generated lies where the real is, and how much of the real is reached.

Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models", NeurIPS 2019
(https://arxiv.org/abs/1904.06991); Naeem et al., "Reliable fidelity and diversity metrics for generative
models", ICML 2020 (https://arxiv.org/abs/2002.09797); Salvy, Talbot & Thirion, "Enhanced generative model
evaluation with Clipped Density and Coverage", 2025 (https://arxiv.org/abs/2507.01761); Han et al., "Rarity
score", ICLR 2023
(https://arxiv.org/abs/2206.08549).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.pairwise.gram_pass import Convention, Counts, gram_pass, median
from niwaki.evaluation.statistics.arrays import held_pair
from niwaki.evaluation.statistics.closed_forms import clipped_coverage_share, expected_coverage
from niwaki.evaluation.statistics.result import Result, mean_interval, signature, wilson

__all__ = ["Manifold", "Neighbours", "manifold"]


CONVENTIONS = {
    None: Convention(strict=True),
    "prdc": Convention(strict=True),
    "kynkaat": Convention(strict=False, eps=1e-5, squared=True),
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
    real: Any, generated: Any, k: int = 5, compat: str | None = None, *, block: int | None = None
) -> Manifold:
    """All neighbour metrics from one pass over the pairs.

    real, generated: features (n, d), n > k
    k:               the ball of a sample reaches to its k-th neighbour in its own set, itself excluded
    compat:          None and "prdc" count a sample as inside where distance < radius; "kynkaat" where ≤ (its
                     own default is k = 3), with its realism r²/(d² + 1e-5)
    block:           side of a block of pairs; None takes one that suits the device

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
    x, y, rule = checked(real, generated, k, compat)
    return manifold_results(gram_pass(x, y, rule, k, block=block), k, compat)


def checked(
    real: Any, generated: Any, k: int, compat: str | None, *, least: int = 1
) -> tuple[Tensor, Tensor, Convention]:
    """The features, at least `least` and k + 1 of each, and the convention. Raises CallError as `manifold`
    does."""
    if compat not in CONVENTIONS:
        names = [c for c in CONVENTIONS if c]
        raise CallError(f"compat '{compat}' is not known; {nearest(str(compat), names)}")
    if k < 1:
        raise CallError(f"k must be at least 1, not {k}")
    x, y = held_pair(real, generated, least=max(least, k + 1))
    return x, y, CONVENTIONS[compat]


def manifold_results(counts: Counts, k: int, compat: str | None) -> Manifold:
    """The metrics from what the pass has counted."""
    own = counts.own
    radius = own.d2[:, -1].sqrt()
    n, m = len(counts.inside), len(counts.around)
    inside, around, clipped = (_numpy(t) for t in (counts.inside, counts.around, counts.clipped))
    sizes, settings = (
        (n, m),
        {"k": k, "inside": "≤" if compat == "kynkaat" else "<", "compat": compat, "d": counts.d},
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
    within = own.d2.sqrt() <= median(radius)
    left_out = float(torch.bincount(own.index[within], minlength=n).clamp(max=k).double().mean()) / k
    clipped_density = mean("clipped_density", np.minimum(clipped, k) / (k * left_out), 1.0)
    low, high = clipped_density.interval or (0.0, 1.0)
    clipped_density = replace(
        clipped_density, value=min(clipped_density.value, 1.0), interval=(min(1.0, low), min(1.0, high))
    )
    capped = np.minimum(inside, k) / k
    low, high = mean_interval(capped)
    share_of = [clipped_coverage_share(v, n, m, k) for v in (float(capped.mean()), low, high)]
    clipped_coverage = Result(
        share_of[0], (share_of[1], share_of[2]), 1.0, capped, sizes, None, _sign("clipped_coverage")
    )
    realism = _numpy(counts.realism)
    rarity = _numpy(torch.where(counts.least2.isfinite(), counts.least2.sqrt(), 0.0))
    found = rarity[around > 0]
    return Manifold(
        precision=share("precision", around > 0),
        recall=share("recall", _numpy(counts.recalled)),
        density=mean("density", around / k, 1.0),
        coverage=share("coverage", inside > 0, expected_coverage(n, m, k)),
        clipped_density=clipped_density,
        clipped_coverage=clipped_coverage,
        realism=Result(
            float(np.median(realism)), None, None, realism, sizes, None, _sign("realism"), endless=True
        ),
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

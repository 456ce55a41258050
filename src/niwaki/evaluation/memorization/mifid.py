"""MiFID: the Fréchet distance, made worse where the samples lie too near to the training set.

Bai et al., "On training sample memorization: lessons from benchmarking generative modeling with a large-scale
competition", KDD 2021 (https://arxiv.org/abs/2106.03062).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.metrics.cmmd import directions
from niwaki.evaluation.metrics.frechet import frechet_distance
from niwaki.evaluation.pairwise.sweep import Pairs
from niwaki.evaluation.statistics.arrays import pair
from niwaki.evaluation.statistics.result import Result, mean_interval, signature

__all__ = ["MiFID", "mifid"]

_EPS = 1e-14
"""Added to the memorisation distance: copies of everything still give a finite number."""


@dataclass(frozen=True)
class MiFID(Result):
    """The penalised distance with its two parts.

    memorization: mean cosine distance of the generated samples to their nearest training sample, 0 … 2, with
                  its interval; 0 where all are copies (up to their lengths)
    distance:     the Fréchet distance that was divided
    """

    memorization: Result
    distance: float

    def to_json(self) -> dict[str, Any]:
        parts = {"memorization": self.memorization.to_json(), "distance": self.distance}
        return {**super().to_json(), **parts}


def mifid(
    train: Any,
    generated: Any,
    *,
    fid: Result | float | None = None,
    threshold: float = 0.1,
    compat: str | None = None,
    block: int = 2048,
) -> MiFID:
    """FID/(s + 1e-14) where s < threshold, FID otherwise; s = mean over generated of 1 − max cosine to train.

    train, generated: features (n, d), n ≥ 2
    fid:              the Fréchet distance to penalise, say to a test set; None: between train and generated
    threshold:        of s; 0.1 is that of the competition, for Inception features, and tells nothing about
                      other ones: compare s with the same of real test samples
    compat:           "torchmetrics" (1.9) averages the wrong direction, over the training samples their
                      distance to the nearest generated one, takes 1 − |cosine|, leaves out rows whose sum is
                      0, and calls a Fréchet distance of at most 1e-8 zero; `per_sample` is then of train
    block:            side of a block of pairs; memory is a few times block²
    `per_sample` is 1 − max cosine of each generated sample, in float64 from the differences, so that a copy
    has 0. MiFID itself jumps at the threshold and has no interval; its parts have. A model that repeats the
    whole training set has s = 0 and a Fréchet distance of 0 too: read `memorization` first.
    Raises CallError for fewer than two samples, differing widths, NaN, a row of zeros, an unknown `compat`, a
    negative distance, a threshold outside 0 … 2.
    """
    if compat not in (None, "torchmetrics"):
        raise CallError(f"compat '{compat}' is not known; {nearest(str(compat), ['torchmetrics'])}")
    if not 0.0 <= threshold <= 2.0:
        raise CallError(f"the threshold of a cosine distance is 0 … 2, not {threshold}")
    x, y = pair(train, generated, least=2)
    sizes = (len(x), len(y))
    distance = float(frechet_distance(x, y) if fid is None else fid)
    if not distance >= 0:
        raise CallError(f"the Fréchet distance to penalise must be at least 0, not {distance}")
    if compat:
        per_sample = _nearest(_nonzero(x, "train"), _nonzero(y, "generated"), block, signed=False)
        distance = distance if distance > 1e-8 else 0.0
    else:
        per_sample = _nearest(directions(y, "generated"), directions(x, "train"), block, signed=True)
    scores = per_sample.cpu().numpy()
    mean = float(scores.mean())
    settings = {"train": sizes[0], "generated": sizes[1], "d": x.shape[1], "compat": compat}
    low, high = mean_interval(scores)
    memorization = Result(
        mean,
        (max(0.0, low), min(2.0, high)),
        None,
        scores,
        sizes,
        None,
        signature("memorization_distance", **settings),
    )
    value = distance / (mean + _EPS) if mean < threshold else distance
    text = signature("mifid", threshold=f"{threshold:g}", given=None if fid is None else "fid", **settings)
    return MiFID(value, None, None, scores, sizes, None, text, memorization, distance)


def _nearest(x: Tensor, y: Tensor, block: int, *, signed: bool) -> Tensor:
    """1 − cosine of each row of x with its nearest of y (or of ±y), all of length 1: 1 − x·y = ‖x−y‖²/2."""
    d2 = Pairs(x, y, block=block).nearest(1).d2[:, 0]
    if not signed:
        d2 = torch.minimum(d2, Pairs(x, -y, block=block).nearest(1).d2[:, 0])
    return d2 / 2.0


def _nonzero(x: Tensor, role: str) -> Tensor:
    """Directions of the rows whose sum is not 0 (torchmetrics' test for a row of zeros)."""
    x = x[x.sum(1) != 0]
    if len(x) < 1:
        raise CallError(f"all {role} features have the sum 0, which torchmetrics leaves out")
    return directions(x, role)

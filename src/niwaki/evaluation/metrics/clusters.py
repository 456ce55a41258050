"""Coverage per cluster: which kinds of real samples are generated too rarely, or not at all.

k-means cuts the real samples into cells; a mode that the model has lost is a cell that it hardly enters.
Cells as bins of both distributions: Richardson & Weiss, "On GANs and GMMs", NeurIPS 2018
(https://arxiv.org/abs/1805.12462).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from niwaki.core.contract import CallError
from niwaki.evaluation.pairwise.sweep import Pairs
from niwaki.evaluation.statistics.arrays import features, pair
from niwaki.evaluation.statistics.closed_forms import expected_coverage
from niwaki.evaluation.statistics.result import Result, signature, wilson
from niwaki.evaluation.statistics.shares import bonferroni, integers, ratio

__all__ = ["Cluster", "ClusterCoverage", "coverage_per_cluster"]

HALF = 0.5
"""A cluster counts as dropped where it surely holds less than this share of what it should."""


@dataclass(frozen=True)
class Cluster:
    """One cell of the real samples.

    index, name: its number, and what it is: with labels the commonest class and its share
    real, generated: samples in it
    expected:    share of real samples in it, and so of those that a perfect generator puts there
    ratio:       share of generated / share of real: 1 as it should be, 0 lost; ∞ where no real sample is
    covered:     share of its real samples whose ball (to the k-th real neighbour) holds a generated one, None
                 where it has no real sample
    typical:     positions of the real samples nearest its centre, the nearest first
    """

    index: int
    name: str
    real: int
    generated: int
    expected: float
    ratio: Result
    covered: Result | None
    typical: np.ndarray = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        share = self.ratio.to_json()
        # JSON knows no infinity
        share["value"] = self.ratio.value if math.isfinite(self.ratio.value) else None
        share["interval"] = [v if math.isfinite(v) else None for v in self.ratio.interval or ()]
        return {
            "index": self.index,
            "name": self.name,
            "real": self.real,
            "generated": self.generated,
            "expected": self.expected,
            "ratio": share,
            "covered": self.covered.to_json() if self.covered else None,
            "typical": self.typical.tolist(),
        }


@dataclass(frozen=True)
class ClusterCoverage:
    """All clusters, and where each sample is.

    clusters: by index
    dropped:  indices of those whose `ratio` lies below one half with its whole interval, the worst first
    real_cluster, generated_cluster: index of each sample's cluster `(N,)`, `(M,)`
    """

    clusters: tuple[Cluster, ...]
    dropped: tuple[int, ...]
    real_cluster: np.ndarray = field(repr=False, compare=False)
    generated_cluster: np.ndarray = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Everything but the samples' places."""
        return {"clusters": [c.to_json() for c in self.clusters], "dropped": list(self.dropped)}


def coverage_per_cluster(
    real: Any,
    generated: Any,
    *,
    k: int = 5,
    clusters: int = 20,
    seed: int = 0,
    fit: Any = None,
    labels: Any = None,
    names: Sequence[str] | None = None,
    typical: int = 8,
    block: int = 2048,
) -> ClusterCoverage:
    """Counts and coverage of the cells of a k-means of the real samples.

    real, generated: features (N, d), (M, d), N > k; a sample belongs to the cell of the nearest centre
    k:        the ball of a real sample reaches to its k-th real neighbour, without its border
    clusters: at most so many; fewer where the centres are fitted to fewer than ten samples each, or to few
              distinct ones
    seed:     of k-means (scikit-learn, the best of 4 starts)
    fit:      features the centres are fitted to, the training split say; None for `real` itself, to which the
              cells are then moulded: a lone outlier may get a cell of its own
    labels:   classes of the real samples `(N,)`; names: of the classes. They name the clusters
    typical:  how many typical members to list

    Intervals hold together over all clusters with 95 % (Bonferroni): Wilson's for the covered share, for the
    ratio of two shares that of Donner & Zou from Wilson's. The floor of `ratio` is 1, that of `covered` the
    expectation for alike distributions. per_sample of `covered` belongs to the cluster's real samples, in
    order.
    Raises CallError for N ≤ k, differing widths, NaN, no clusters, labels of another length or without name.
    """
    if clusters < 1 or k < 1:
        raise CallError(f"clusters and k must be at least 1, not {clusters} and {k}")
    x, y = pair(real, generated, least=1)
    if len(x) <= k:
        raise CallError(f"{len(x)} real samples are too few for {k} neighbours")
    label = None if labels is None else integers(labels, "labels", len(x))
    if label is not None and names is not None and int(label.max()) >= len(names):
        raise CallError(f"there are {len(names)} class names, but the class {int(label.max())}")
    centres = _centres(x if fit is None else _fitted(fit, x), clusters, seed)
    nearest_x, nearest_y = (
        Pairs(x, centres, block=block).nearest(1),
        Pairs(y, centres, block=block).nearest(1),
    )
    place_x, place_y = nearest_x.index[:, 0].cpu().numpy(), nearest_y.index[:, 0].cpu().numpy()
    to_centre = nearest_x.d2[:, 0].cpu().numpy()
    radius2 = Pairs(x, block=block).nearest(k).d2[:, -1]
    covered = (Pairs(x, y, block=block).nearest(1).d2[:, 0] < radius2).cpu().numpy()
    n, m = len(x), len(y)
    occupied = np.union1d(place_x, place_y).tolist()
    z = bonferroni(len(occupied))
    settings = {
        "clusters": len(occupied),
        "fit": None if fit is None else "other",
        "k": k,
        "real": n,
        "generated": m,
    }
    floor = expected_coverage(n, m, k)
    found = []
    for c in occupied:
        members = np.flatnonzero(place_x == c)
        a, b = len(members), int(np.count_nonzero(place_y == c))
        share = Result(
            (b / m) / (a / n) if a else math.inf,
            ratio(b, m, a, n, z),
            1.0,
            None,
            (a, b),
            seed,
            signature("cluster_ratio", cluster=c, **settings),
            endless=True,
        )
        hits = covered[members].astype(np.float64)
        reached = Result(
            float(hits.mean()) if a else 0.0,
            wilson(float(hits.sum()), a, z),
            floor,
            hits,
            (a, b),
            seed,
            signature("cluster_coverage", cluster=c, **settings),
        )
        order = members[np.argsort(to_centre[members], kind="stable")][:typical]
        name = _name(c, None if label is None else label[members], names)
        found.append(Cluster(c, name, a, b, a / n, share, reached if a else None, order))
    lost = [c for c in found if c.ratio.interval is not None and c.ratio.interval[1] < HALF]
    lost.sort(key=lambda c: c.ratio.value)
    return ClusterCoverage(tuple(found), tuple(c.index for c in lost), place_x, place_y)


def _fitted(fit: Any, x: torch.Tensor) -> torch.Tensor:
    f = features(fit, "fit").to(x.device)
    if f.shape[1] != x.shape[1]:
        raise CallError(f"fit has {f.shape[1]} features and real {x.shape[1]}; take both from one extractor")
    return f


def _centres(x: torch.Tensor, clusters: int, seed: int) -> torch.Tensor:
    """Distinct centres of k-means (cells, d), on the device of x."""
    with np.errstate(over="ignore"):
        rows = x.cpu().numpy().astype(np.float32)
    if not np.isfinite(rows).all():
        raise CallError("the features are too large to be clustered in float32; scale them by one factor")
    count = max(1, min(clusters, len(rows) // 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of fewer distinct samples than centres
        found = KMeans(count, n_init=4, random_state=seed % 2**31).fit(rows)
    return torch.from_numpy(np.unique(found.cluster_centers_, axis=0)).to(x)


def _name(index: int, label: np.ndarray | None, names: Sequence[str] | None) -> str:
    if label is None or not len(label):
        return f"cluster {index}"
    counts = np.bincount(label)
    common = int(counts.argmax())
    what = names[common] if names is not None else f"class {common}"
    return f"cluster {index} ({100 * counts[common] / len(label):.0f} % {what})"

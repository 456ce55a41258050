"""The statistics of the verdict: log realism of each generated sample, rarefied coverage of the real ones.

Both come from the k nearest real samples of every generated one, and they share nothing else:

*Log realism* (fidelity): s_j = log max_i r_i/d_ij over the k nearest real i, r_i the distance of i to its own
k-th neighbour, at most the median: above 0 inside a ball of the real set. Its mean is an average over single
samples, so that losing a mode does not move it.

*Rarefied coverage* (diversity): the expected share of real samples that are among the k nearest of at least
one of m generated samples. By rank and not by distance, so that samples which all move off a little cover as
much as before (the coverage of Naeem et al. answers to noise as well). With c_i generated samples of n that
have i among their k nearest, a draw of m without replacement misses i with probability C(n−c_i, m)/C(n, m):
the rarefaction of Hurlbert, "The nonconcept of species diversity", 1971, an unbiased U-statistic of degree m
whose expectation does not depend on n.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.special import gammaln

from niwaki.core.contract import CallError
from niwaki.evaluation.pairwise.sweep import Pairs
from niwaki.evaluation.pairwise.topk import Nearest
from niwaki.evaluation.statistics.arrays import held, held_pair

__all__ = [
    "CLIP",
    "Neighbourhood",
    "neighbourhood",
    "neighbourhoods",
    "rarefied_coverage",
    "rarefied_coverage_table",
]

CLIP = 2.0
"""|log realism| is cut here, a factor of 7.4: one copy or one ruin counts as one sample."""


@dataclass(frozen=True)
class Neighbourhood:
    """Where generated samples lie among the real ones.

    log_realism: s_j `(n,)` float64, −2 … 2
    claims:      the k nearest real samples of each generated one `(n, k)` int64
    distance:    to the nearest real sample `(n,)` float64
    real:        number of real samples
    """

    log_realism: np.ndarray
    claims: np.ndarray
    distance: np.ndarray
    real: int

    def counts(self, keep: np.ndarray | None = None) -> np.ndarray:
        """c_i: how many generated samples (of those kept) have real sample i among their k nearest."""
        claims = self.claims if keep is None else self.claims[keep]
        return np.bincount(claims.ravel(), minlength=self.real)

    @classmethod
    def of(cls, own: Nearest, near: Nearest) -> Neighbourhood:
        """own: of each real sample the k nearest real ones; near: those of each generated one."""
        radius = own.d2[:, -1].sqrt()
        radius = radius.clamp(max=float(radius.median()))
        distance = near.d2.sqrt()
        ratio = (radius[near.index].clamp(min=1e-300) / distance.clamp(min=1e-300)).log().amax(1)
        log_realism = torch.where(ratio.isfinite(), ratio, 0.0).clamp(-CLIP, CLIP)
        return cls(
            log_realism.cpu().numpy(), near.index.cpu().numpy(), distance[:, 0].cpu().numpy(), len(own.d2)
        )

    def part(self, rows: slice | np.ndarray) -> Neighbourhood:
        """Some of the generated samples, by a slice or by their numbers."""
        return replace(
            self, log_realism=self.log_realism[rows], claims=self.claims[rows], distance=self.distance[rows]
        )


def neighbourhood(real: Any, generated: Any, k: int = 5) -> Neighbourhood:
    """Features (N, d), (n, d) → the place of every generated sample. Raises CallError for N ≤ k or NaN."""
    return neighbourhoods(real, [generated], k)[0]


def neighbourhoods(real: Any, sets: Sequence[Any], k: int = 5) -> list[Neighbourhood]:
    """The same of several sets among one real one: real-real is swept once, and all sets against it in one
    go."""
    x = held(real, "real")
    many = [held_pair(x, generated)[1] for generated in sets]
    if len(x) <= k:
        raise CallError(f"{len(x)} real samples are too few for {k} neighbours")
    own = Pairs(x).nearest(k)
    # each sample's neighbours are its own matter, whatever lies beside it
    all_of_them = Neighbourhood.of(own, Pairs(torch.cat(many), x).nearest(k))
    ends = np.cumsum([0] + [len(y) for y in many]).tolist()
    return [all_of_them.part(slice(a, b)) for a, b in pairwise(ends)]


def rarefied_coverage_table(n: int, m: int) -> np.ndarray:
    """g(c) = 1 − C(n−c, m)/C(n, m) for c = 0 … n: the chance that m drawn of n hold one of c `(n+1,)`."""
    c = np.arange(n + 1, dtype=np.float64)
    left = np.maximum(n - c, m)
    log_missed = gammaln(left + 1) - gammaln(left - m + 1) - gammaln(n + 1.0) + gammaln(n - m + 1.0)
    return 1.0 - np.where(n - c >= m, np.exp(log_missed), 0.0)


def rarefied_coverage(counts: np.ndarray, n: int, m: int) -> np.ndarray:
    """Of each real sample, the chance to be reached by m of the n generated samples `(real,)`, 0 … 1."""
    return rarefied_coverage_table(n, m)[counts]

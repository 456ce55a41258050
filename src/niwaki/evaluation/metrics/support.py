"""Fidelity and diversity by supports that are estimated twice and calibrated on left-out samples.

A sample lies in the support of a set only if it passes each of three tests, all of them necessary:

*neighbours*: its k-th neighbour is no further than that of all but a share of the set's own samples. By one
    radius for all and not by one ball for each, so that an outlier adds itself and nothing around it.
*tails*: no coordinate lies further outside than that of all but a share of the set's own samples, and the
    one coordinate that fits worst lies no further outside than any does in all but a smaller share: x in the
    support of P implies x_i in the support of its margin, so that Q(supp P) ≤ min_i Q_i(supp P_i). The first
    sees the border of a cube, the second one wrong coordinate among a thousand; distances see neither.
*grid*: where a coordinate of the set takes only multiples of a step, the sample's does too.

*Support precision* is the share of generated samples in the support of the real ones; *support coverage* the
share of real samples in the support of the generated ones **and** near at least a fifth of as many generated
samples as a perfect generator has there. Support alone (a recall) does not see a mode that grows rare;
density alone counts a point in the middle as near to everything in many dimensions. Both are divided by what
left-out samples of the set reach, so that a perfect generator scores 1.

The neighbour ratio of coverage follows Naeem et al., "Reliable fidelity and diversity metrics for generative
models", ICML 2020 (https://arxiv.org/abs/2002.09797) and Cheema & Urner, AISTATS 2023
(https://proceedings.mlr.press/v206/cheema23a.html). The checks that it was made to pass are those of Räisä,
van Breugel & van der Schaar, ICML 2025 (https://arxiv.org/abs/2505.22450).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import nbinom
from torch import Tensor

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.grid import Grid
from niwaki.evaluation.pairwise.sweep import Pairs
from niwaki.evaluation.statistics.arrays import pair
from niwaki.evaluation.statistics.result import Result, signature, wilson

__all__ = ["Support", "support"]

_EDGE = 0.005
"""Share of a set's own samples that the test of coordinates leaves outside: small, for the outermost of ten
modes is hit by all of it on its side. A tenth of it for one coordinate alone."""
_TAIL = 0.05
"""The distance from the median to this quantile is the unit of how far a coordinate lies outside."""
_LEAST = 40
"""Of fewer samples `level` leaves out none."""


@dataclass(frozen=True)
class Support:
    """`per_sample` is 1 or 0: of the generated samples for precision, of the real ones for coverage."""

    precision: Result
    coverage: Result

    def results(self) -> dict[str, Result]:
        """The two numbers by name."""
        return {"support_precision": self.precision, "support_coverage": self.coverage}


@dataclass(frozen=True)
class _Set:
    """A set and the limits of its support.

    radius2: squared distance of the k-th neighbour that is still inside
    outside: how far outside the furthest coordinate may lie, see `_outside`
    single:  how far outside a coordinate may lie that was looked at alone
    held:    share of its own samples that pass, each compared with the others
    """

    x: Tensor
    grid: Grid
    radius2: float
    outside: float
    single: float
    held: float


def support(
    real: Any, generated: Any, *, k: int = 5, level: float = 0.025, ratio: float = 0.2, grid: bool = True
) -> Support:
    """Precision and coverage, 0 … 1, 1 expected of a perfect generator.

    real, generated: features (n, d), at least 40 and more than 4·k of each; on comparable scales
    k:               neighbours that make a support
    level:           share of a set's own samples that the test of neighbours leaves outside
    ratio:           a real sample is covered where the generated ones are at least this share as dense as the
                     real ones, within the distance of its 4·k-th real neighbour
    grid:            False where the steps of a coordinate mean nothing: 8-bit pixels beside computed ones
    Precision sees no rare mode's border (one radius serves all) and nothing that lies nearer to everything
    than the samples do to each other: the inside of a sphere in a hundred dimensions counts as support.
    One coordinate decides: where some hardly vary (pixels that are always black), the smallest change of them
    sends precision or coverage to 0; use features that all vary.
    Intervals are Wilson's over the samples, the other set held fixed, scaled like the value.
    Raises CallError for too few samples, differing widths, NaN, a level or ratio outside 0 … 1.
    """
    if k < 1:
        raise CallError(f"k must be at least 1, not {k}")
    if not 0 < level < 0.5 or not 0 < ratio <= 1:
        raise CallError(f"level must lie in 0 … 0.5 and ratio in 0 … 1, not {level} and {ratio}")
    wide = 4 * k
    x, y = pair(real, generated, least=max(wide + 1, _LEAST))
    n, m = len(x), len(y)
    own = Pairs(x).nearest(wide).d2
    of_real = _limits(x, own[:, k - 1], level, grid)
    of_generated = _limits(y, Pairs(y).nearest(k).d2[:, -1], level, grid)

    inside = _inside(of_real, y, k)
    # a perfect generator has wide · m/n samples as near as the wide-th real neighbour
    least = max(1, math.ceil(ratio * wide * m / n - 1e-9))
    possible = y[of_real.grid.holds(y)]
    near = torch.zeros(n, dtype=torch.bool, device=x.device)
    if len(possible) >= least:
        near = Pairs(x, possible).nearest(least).d2[:, -1] <= own[:, -1]
    covered = near & _inside(of_generated, x, k)
    # A perfect generator's samples in the ball up to the wide-th real neighbour are negative binomial: each
    # next sample is real with probability n/(n + m).
    dense = float(nbinom.sf(least - 1, wide, n / (n + m)))

    def result(name: str, hits: Tensor, held: float) -> Result:
        hit = hits.double().cpu().numpy()
        low, high = (min(1.0, v / held) for v in wilson(hit.sum(), len(hit)))
        value = min(1.0, float(hit.mean()) / held)
        text = signature(name, k=k, level=level, ratio=ratio, grid=grid, d=x.shape[1], real=n, generated=m)
        return Result(value, (low, high), 1.0, hit, (n, m), None, text)

    return Support(
        result("support_precision", inside, of_real.held),
        result("support_coverage", covered, of_generated.held * dense),
    )


def _limits(x: Tensor, d2: Tensor, level: float, grid: bool) -> _Set:
    """The limits that a share of the samples lies beyond, each compared with the others.

    d2: squared distance to the k-th of the others `(n,)`
    """
    outside = _outside(x, x, own=True)
    furthest = outside.amax(1)
    radius2, limit = _quantile(d2, level), _quantile(furthest, _EDGE)
    held = float(((d2 <= radius2) & (furthest <= limit)).double().mean())
    single = _quantile(outside.flatten(), _EDGE / 10)
    return _Set(x, Grid.of(x if grid else x[:0]), radius2, limit, single, held)


def _quantile(values: Tensor, level: float) -> float:
    """The smallest of the values that at most a share `level` of them exceeds."""
    rank = len(values) - int(level * len(values)) - 1
    return float(values.kthvalue(rank + 1).values)


def _inside(of: _Set, x: Tensor, k: int) -> Tensor:
    """Which samples x lie in the support of a set: bool `(len(x),)`."""
    near = Pairs(x, of.x).nearest(k).d2[:, -1] <= of.radius2
    outside = _outside(x, of.x)
    beyond = outside > of.single
    worst = beyond[:, int(beyond.sum(0).argmax())]
    return near & (outside.amax(1) <= of.outside) & ~worst & of.grid.holds(x)


def _outside(x: Tensor, of: Tensor, own: bool = False) -> Tensor:
    """How far the samples lie beyond the extremes of the set in each coordinate `(len(x), d)`.

    In distances from the median to the quantile _TAIL of that side, ±∞ where that is 0; negative inside.
    own: x are the samples of the set; each is compared with the extremes of the others
    """
    out = torch.full_like(x, -torch.inf)
    order = of.sort(dim=0).values
    tail, middle = int(_TAIL * len(of)), order[len(of) // 2]
    for sign, ranked in ((1.0, order.flip(0)), (-1.0, order)):
        start, extreme, second = (sign * ranked[i] for i in (tail, 0, 1))
        value = sign * x
        excess = value - (torch.where(value == extreme, second, extreme) if own else extreme)
        out = torch.maximum(out, torch.where(excess == 0, 0.0, excess / (start - sign * middle)))
    return out

"""Early rejection: damage is looked at after every block of pairs, and the promised error rates hold over all
looks together.

Values of blocks are taken to be normal with a mean and a variance that are not known: each is a mean over a
hundred pairs or so. Then the mixed likelihood ratio of the t statistics is a martingale whatever the variance
(Lai 1976; Wang & Ramdas, "Anytime-valid t-tests and confidence sequences for Gaussian means with unknown
variance", 2023), and its bound holds at all times at once. Bounds that know the variance only in the limit
(Waudby-Smith et al., "Time-uniform central limit theory", 2021) are narrower by a tenth at twenty blocks and
wrong at five, which is where rejection saves most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, TypeVar

import numpy as np

from niwaki.core.errors import CallError

__all__ = ["Decision", "EarlyTest", "bounds_at_all_times", "pseudo_values"]

Decision = Literal["reject", "accept", "go on"]

Block = TypeVar("Block")

_SPREAD = 0.2
"""c² of the mixture: effects μ/σ ~ N(0, 1/c²). The bounds at ten blocks are within 3 % of the narrowest."""
_FEWEST = 4
"""Blocks before a decision: with fewer the bounds are infinite at the usual levels."""


def bounds_at_all_times(
    values: np.ndarray, below: float, above: float, spread: float = _SPREAD
) -> tuple[float, float]:
    """(lower, upper) bound of the mean of normal values `(n,)`: they miss it at any n ever with probabilities
    of at most `below` and `above`.

    G_n(μ₀) = √(c²/(n + c²)) · [ (n + c²)V / ((n + c²)V − S²) ]^{n/2}, S = Σ(x − μ₀), V = Σ(x − μ₀)², is the
    likelihood ratio of effects N(0, 1/c²) to none, the scale integrated out (Wang & Ramdas 2023). It is the
    mean of M⁺ and M⁻, the ratios of the positive and the negative effects; where S > 0, M⁻ is at most its
    value at S = 0, √(c²/(n + c²)). So M⁺ ≥ 1/level, of probability at most `level` (Ville), where
    G_n ≥ (1/level + √(c²/(n + c²)))/2; solved for μ₀ in `_width`.

    The far side of lopsided values moves away by s·γ·(2z² + 1)/(6n) (Hall 1992; as in the verdict's
    interval), γ their skewness, z the width in standard errors: rare heavy damage is not normal.
    """
    n = len(values)
    if n == 0:
        return (-math.inf, math.inf)
    mean = float(values.mean())
    off = values - mean
    deviation = math.sqrt(float(off @ off) / n)
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        deviation = 0.0
    skewness = float(off**2 @ off) / n / deviation**3 if deviation else 0.0
    ends = []
    for side, level in ((-1.0, below), (1.0, above)):
        width = _width(n, level, spread)
        if math.isinf(width):
            ends.append(side * width)
            continue
        lopsided = max(0.0, side * skewness) * (2.0 * n * width * width + 1.0) / (6.0 * n)
        ends.append(mean + side * deviation * (width + lopsided))
    return (ends[0], ends[1])


@lru_cache(maxsize=4096)
def _width(n: int, level: float, spread: float) -> float:
    """Of a bound from the mean, in deviations s: (n + c²)(s² + d²) = K((n + c²)s² + c²d²) for d at s = 1,
    K^{n/2} = (1/level + √(c²/(n + c²)))/2 / √(c²/(n + c²))."""
    none = math.sqrt(spread / (n + spread))
    k = ((1.0 / level + none) / 2.0 / none) ** (2.0 / n)
    left = n + spread - k * spread
    return math.sqrt((k - 1.0) * (n + spread) / left) if left > 0 else math.inf


class EarlyTest:
    """Whether a changed model can be rejected or accepted before all of its pairs are drawn.

    `reject` as soon as the lower bound of damage is above the limit on either axis; `accept`, which ends the
    sampling, as soon as the upper bounds of both are below it. A decision stands.

    alpha: a model whose damage is at most the limit on both axes is ever rejected with at most this
           probability (alpha/2 for each)
    beta:  a model whose damage is above it on an axis is ever accepted with at most this probability (both
           axes must be seen below, so that nothing is divided)
    limit: damage in margins
    fewest: blocks before any decision
    """

    def __init__(
        self, *, alpha: float = 0.05, beta: float = 0.05, limit: float = 1.0, fewest: int = _FEWEST
    ) -> None:
        """Raises CallError for levels outside (0, 1) and fewer than two blocks."""
        if not (0 < alpha < 1 and 0 < beta < 1):
            raise CallError(f"alpha and beta must lie between 0 and 1, not {alpha} and {beta}")
        if fewest < 2:
            raise CallError(f"a spread takes at least two blocks, not {fewest}")
        self.alpha, self.beta, self.limit, self.fewest = alpha, beta, limit, fewest
        self.values: dict[str, np.ndarray] = {axis: np.zeros(0) for axis in ("fidelity", "diversity")}
        self.decision: Decision = "go on"

    @property
    def blocks(self) -> int:
        return len(self.values["fidelity"])

    def add(self, fidelity: float, diversity: float) -> Decision:
        """One more block: its damage in margins, by axis."""
        more = {"fidelity": fidelity, "diversity": diversity}
        return self.look(**{axis: np.append(v, more[axis]) for axis, v in self.values.items()})

    def look(
        self, fidelity: Sequence[float] | np.ndarray, diversity: Sequence[float] | np.ndarray
    ) -> Decision:
        """The values of all blocks until now, where new blocks change those of the old ones (pseudo-values).

        Raises CallError where there are not as many of both, or a value is not finite.
        """
        both = {"fidelity": np.asarray(fidelity, float), "diversity": np.asarray(diversity, float)}
        if len(both["fidelity"]) != len(both["diversity"]):
            raise CallError("each block has a value on both axes")
        for axis, values in both.items():
            if not np.isfinite(values).all():
                raise CallError(f"the {axis} damage of a block is not finite")
        self.values = both
        if self.decision == "go on" and self.blocks >= self.fewest:
            bounds = self.bounds()
            if any(low > self.limit for low, _ in bounds.values()):
                self.decision = "reject"
            elif all(high < self.limit for _, high in bounds.values()):
                self.decision = "accept"
        return self.decision

    def bounds(self) -> dict[str, tuple[float, float]]:
        """By axis (lower bound at alpha/2, upper bound at beta) of the damage in margins."""
        return {a: bounds_at_all_times(v, self.alpha / 2, self.beta) for a, v in self.values.items()}


def pseudo_values(statistic: Callable[[Sequence[Block]], float], blocks: Sequence[Block]) -> np.ndarray:
    """k·θ(all) − (k − 1)·θ(without block i) of each of the k blocks `(k,)`: what each adds to a statistic
    that is no mean (Tukey 1958; Efron & Stein 1981). Their mean is the jackknife estimate of θ.

    statistic: of any k − 1 or k of the blocks
    Raises CallError for fewer than two blocks.
    """
    k = len(blocks)
    if k < 2:
        raise CallError(f"leaving a block out takes at least two of them, not {k}")
    whole = statistic(blocks)
    without = [statistic([*blocks[:i], *blocks[i + 1 :]]) for i in range(k)]
    return k * whole - (k - 1) * np.asarray(without, float)

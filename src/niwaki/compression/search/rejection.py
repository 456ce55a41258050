"""Early rejection: damage is looked at after every block of pairs, and the promised error rates hold over all
looks together. Values of blocks are taken to be normal: each is a mean over a hundred pairs or so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import numpy as np

from niwaki.core.errors import CallError
from niwaki.sequential.normal_mean import bounds_of_normal_mean

__all__ = ["Decision", "EarlyTest", "pseudo_values"]

Decision = Literal["reject", "accept", "go on"]

Block = TypeVar("Block")

_FEWEST = 4
"""Blocks before a decision: with fewer the bounds are infinite at the usual levels."""


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
        return {a: bounds_of_normal_mean(v, self.alpha / 2, self.beta) for a, v in self.values.items()}


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

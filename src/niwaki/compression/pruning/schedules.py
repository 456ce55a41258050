"""How much is gone after each round of pruning."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["SCHEDULES", "cubic", "even"]


def even(k: int, rounds: int) -> float:
    """Share of the final ratio that is reached after round k = 0 … rounds: k / rounds."""
    return k / rounds


def cubic(k: int, rounds: int) -> float:
    """1 − (1 − k/n)³: much while there is much to spare, little at the end.

    Zhu & Gupta 2017, "To prune, or not to prune", eq. 1, with s_i = 0:
    s_k = s_f + (s_i − s_f)(1 − k/n)³.
    """
    return 1.0 - (1.0 - k / rounds) ** 3


SCHEDULES: dict[str, Callable[[int, int], float]] = {"even": even, "cubic": cubic}

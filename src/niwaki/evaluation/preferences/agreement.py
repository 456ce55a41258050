"""How far raters agree beyond chance: Krippendorff's α for names (Krippendorff, "Computing Krippendorff's
alpha-reliability", 2011)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

__all__ = ["agreement"]


def agreement(
    ratings: Sequence[tuple[str, str, Hashable]], *, draws: int = 500, seed: int = 0
) -> tuple[float, tuple[float, float]] | None:
    """α = 1 − D_observed/D_expected, and its 95 % interval by drawing questions anew; 1 is perfect agreement,
    0 what chance gives. None where no question has two answers.

    ratings: (question, rater, answer)
    """
    by_question: dict[str, list[Hashable]] = defaultdict(list)
    for question, _, answer in ratings:
        by_question[question].append(answer)
    units = [Counter(answers) for answers in by_question.values() if len(answers) > 1]
    if not units:
        return None
    rng = np.random.default_rng([seed, 0x6B61])
    found = [_alpha([units[i] for i in rng.integers(len(units), size=len(units))]) for _ in range(draws)]
    low, high = np.quantile(found, [0.025, 0.975])
    return _alpha(units), (float(low), float(high))


def _alpha(units: Sequence[Counter[Hashable]]) -> float:
    totals: Counter[Hashable] = Counter()
    disagreed, n = 0.0, 0
    for unit in units:
        m = sum(unit.values())
        n += m
        totals.update(unit)
        disagreed += (m * m - sum(c * c for c in unit.values())) / (m - 1)
    expected = (n * n - sum(c * c for c in totals.values())) / (n - 1)
    return 1.0 if expected == 0 else 1.0 - disagreed / expected

"""How far a rater can be relied on: what two kinds of planted questions show, without knowing the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from niwaki.evaluation.preferences.ratings import Rating
from niwaki.evaluation.statistics.result import wilson

__all__ = ["Reliability", "reliability"]


@dataclass(frozen=True)
class Reliability:
    """Of one rater.

    identical: (right, asked) of questions with the same sample on both sides: right is a tie
    repeated:  (right, asked) of questions that come again with the sides changed: right is the same choice
    share:     right of all of them, with Wilson's 95 % interval; (0, 1) where none was asked
    seconds:   median of an answer's time
    """

    rater: str
    answers: int
    identical: tuple[int, int]
    repeated: tuple[int, int]
    share: float
    interval: tuple[float, float]
    seconds: float


def reliability(answers: Sequence[Rating]) -> list[Reliability]:
    """Of every rater, those with the most answers first."""
    found = []
    for rater in sorted({one.rater for one in answers}):
        mine = [one for one in answers if one.rater == rater]
        before = {one.question: one.chosen for one in mine if not one.check}
        alike = [one.winner == "tie" for one in mine if one.check == "identical"]
        again = [
            before[one.question] == one.chosen
            for one in mine
            if one.check == "repeat" and one.question in before
        ]
        right, asked = sum(alike) + sum(again), len(alike) + len(again)
        seconds = float(np.median([one.ms for one in mine])) / 1000
        counted = len(mine) - sum(bool(one.check) for one in mine)
        found.append(
            Reliability(
                rater,
                counted,
                (sum(alike), len(alike)),
                (sum(again), len(again)),
                right / asked if asked else float("nan"),
                wilson(right, asked),
                seconds,
            )
        )
    return sorted(found, key=lambda one: (-one.answers, one.rater))

"""Which pair a rater is asked next: a pure function of the study's seed, the rater and the number of the
question, so that a page may ask twice, come back tomorrow, or lose its connection."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from niwaki.evaluation.preferences.ratings import Check

__all__ = ["Question", "question_of"]

_COMMON = 4
"""Every so many questions one is asked of all raters: by these their agreement is measured."""
_BETWEEN = 3
"""Questions between one and its repetition, at least."""
_NUMBERS = 1 << 30


@dataclass(frozen=True)
class Question:
    """
    name:        equal where two raters compare the same two samples
    left, right: models; number: of both samples
    """

    name: str
    left: str
    right: str
    number: int
    check: Check = ""


def question_of(models: Sequence[str], rater: str, k: int, *, seed: int = 0, checks: float = 0.1) -> Question:
    """Question k of a rater.

    models: at least two names
    checks: share of planted questions: the same sample on both sides, or an earlier question with the sides
            changed, in turn by chance
    """
    models, rng = sorted(models), _drawn(seed, rater, k)
    if k > _BETWEEN and rng.random() < checks:
        earlier = question_of(models, rater, int(rng.integers(k - _BETWEEN)), seed=seed, checks=checks)
        if not earlier.check and rng.random() < 0.5:
            return Question(earlier.name, earlier.right, earlier.left, earlier.number, "repeat")
        one, number = models[int(rng.integers(len(models)))], int(rng.integers(_NUMBERS))
        return Question(f"{one}={one}:{number}", one, one, number, "identical")
    whose, at = ("", k // _COMMON) if k % _COMMON == _COMMON - 1 else (rater, k)
    pairs = list(combinations(models, 2))
    block, place = divmod(at, len(pairs))
    a, b = pairs[int(_drawn(seed, f"order/{whose}", block).permutation(len(pairs))[place])]
    number = int(_drawn(seed, f"sample/{whose}", at).integers(_NUMBERS))
    left, right = (a, b) if rng.random() < 0.5 else (b, a)
    return Question(f"{a}:{b}:{number}", left, right, number)


def _drawn(seed: int, word: str, k: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}/{k}/{word}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16]))

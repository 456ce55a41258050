"""Samples in which every value of an attribute is equally often: by rejection, as the data's classifier and
neighbours see them.

Candidates are the samples of the seed in their order; one is taken while its value lacks some. Given its
value, a sample that is taken is a sample of the model: what is made of a class stays as it was, how often it
comes does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, NiwakiError
from niwaki.evaluation.judges.recognising import Recogniser

__all__ = ["Balanced", "balanced"]

MOST = 50
"""Candidates for each sample that is asked for, at most."""
_FEWEST = 256
"""Candidates that are made at once, at least: recognising has a price of its own."""

Rows = dict[str, np.ndarray]


@dataclass(frozen=True)
class Balanced:
    """
    x, rows: the samples that were taken, and what was asked of each
    index:   which samples of the seed they are, increasing `(n,)`
    record:  what they were balanced by, how many candidates that took, and how often each value came
    """

    x: np.ndarray
    rows: Rows
    index: np.ndarray
    record: dict[str, Any]


def balanced(
    make: Callable[[int, int], tuple[np.ndarray, Rows]],
    recogniser: Recogniser,
    by: str,
    n: int,
    *,
    start: int = 0,
    most: int = MOST,
) -> Balanced:
    """n samples, ⌊n/K⌋ or ⌈n/K⌉ of each of the K values of `by` (`class`, an attribute, or `class+font`).

    make: (first, count) → samples first … first+count−1 and what was asked of them
    Raises CallError for an attribute that nothing recognises, NiwakiError where a value does not come often
    enough in `most` candidates for each sample.
    """
    names = recogniser.value_names(by)
    values = len(names)
    if n < values:
        raise CallError(f"{n} samples cannot hold all {values} values of '{by}'; ask for {values} or more")
    quota = np.full(values, n // values) + (np.arange(values) < n % values)
    came, taken = np.zeros(values, np.int64), np.zeros(values, np.int64)
    parts: list[tuple[np.ndarray, Rows, np.ndarray]] = []
    first, chunk = start, max(n, _FEWEST)
    while (taken < quota).any():
        if first - start >= most * chunk:
            worst = int((taken - quota).argmin())
            raise NiwakiError(
                f"in {first - start:,} candidates '{names[worst]}' came {taken[worst]} times, "
                f"and {quota[worst]} are needed; ask for fewer samples, or train with 'train.balance'"
            )
        x, rows = make(first, chunk)
        found = recogniser.joint(recogniser.of_samples(x), by)
        came += np.bincount(found, minlength=values)
        place = _place_among_equals(found, values)
        take = taken[found] + place < quota[found]
        taken += np.bincount(found[take], minlength=values)
        parts.append((x[take], {k: v[take] for k, v in rows.items()}, first + np.flatnonzero(take)))
        first += chunk
    xs, dicts, indices = zip(*parts, strict=True)
    joined = {name: np.concatenate([rows[name] for rows in dicts]) for name in dicts[0]}
    index = np.concatenate(indices)
    record = {
        "by": by,
        "candidates": int(first - start),
        "recognised_by": " and ".join(dict.fromkeys(recogniser.means(part) for part in by.split("+"))),
        "came": dict(zip(names, came.tolist(), strict=True)),
        "taken": dict(zip(names, taken.tolist(), strict=True)),
    }
    return Balanced(np.concatenate(xs), joined, index, record)


def _place_among_equals(values: np.ndarray, count: int) -> np.ndarray:
    """How many equal ones stand before each: [3, 1, 3] → [0, 0, 1]."""
    place = np.zeros(len(values), np.int64)
    for value in range(count):
        where = values == value
        place[where] = np.arange(int(where.sum()))
    return place

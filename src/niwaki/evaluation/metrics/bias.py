"""Bias: which attributes does the model make more or less often than the real data have them?

Attributes are integers per sample: the class that a classifier recognises, a font, a hair colour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.statistics.result import Z95, Result, signature
from niwaki.evaluation.statistics.shares import bonferroni, difference, holm, integers

__all__ = ["AttributeShift", "ValueShift", "attribute_shift"]


@dataclass(frozen=True)
class ValueShift:
    """One value of one attribute.

    attribute, value, name:      which
    real_count, generated_count: samples that have it
    real, generated:             their shares
    shift:                       generated − real, −1 … 1
    interval:                    of the shift; all intervals of a call hold together with 95 %
    """

    attribute: str
    value: int
    name: str
    real_count: int
    generated_count: int
    real: float
    generated: float
    shift: float
    interval: tuple[float, float]

    @property
    def clear(self) -> bool:
        """The interval excludes 0."""
        return self.interval[0] > 0 or self.interval[1] < 0

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "interval": list(self.interval), "clear": self.clear}


@dataclass(frozen=True)
class AttributeShift:
    """Shifts of attribute frequencies between real and generated.

    shifts:    every value of every attribute, the largest shift first
    distances: total variation distance of each attribute, its floor what two real sets of these sizes have
    p_values:  of each attribute, that real and generated have the same frequencies; by permutation of χ²,
               Holm's correction over the attributes
    """

    shifts: tuple[ValueShift, ...]
    distances: dict[str, Result]
    p_values: dict[str, float]

    @property
    def clear(self) -> tuple[ValueShift, ...]:
        """The values that are surely made too often or too rarely."""
        return tuple(s for s in self.shifts if s.clear)

    def to_json(self) -> dict[str, Any]:
        return {
            "shifts": [s.to_json() for s in self.shifts],
            "distances": {k: v.to_json() for k, v in self.distances.items()},
            "p_values": dict(self.p_values),
        }


def attribute_shift(
    real_attributes: Mapping[str, Any] | Any,
    generated_attributes: Mapping[str, Any] | Any,
    *,
    names: Mapping[str, Sequence[str]] | Sequence[str] | None = None,
    permutations: int = 1999,
    seed: int = 0,
) -> AttributeShift:
    """Compare how often each value of each attribute occurs.

    real_attributes, generated_attributes: by name, integers 0, 1, 2 … `(N,)` and `(M,)`; or one array, which
                  is called "class"
    names:        of the values of each attribute (of the one array); their places are the integers
    permutations: random exchanges of real and generated for the p-values and the floor
    seed:         of the permutations

    Intervals of the shifts: Newcombe's for independent shares, at Bonferroni's level over all values of all
    attributes. A value that neither set has is left out.
    Total variation distance ½ Σ |p − q|, 0 … 1, is at least the difference in the share of *any* group of
    values. Sampling alone makes it positive, by the floor where nothing differs and by less where something
    does: the interval is ± 1.96 standard errors (the signs of the shifts held fixed), its lower end moved
    down by the floor.
    Raises CallError for differing attributes, empty sets, values without a name, what is no integer.
    """
    real, generated, named = _tables(real_attributes, generated_attributes, names)
    if permutations < 1:
        raise CallError(f"permutations must be at least 1, not {permutations}")
    counts = {
        attribute: _counts(attribute, real[attribute], generated[attribute], named.get(attribute))
        for attribute in real
    }
    z = bonferroni(sum(len(values) for values, _, _ in counts.values()))
    rng = np.random.default_rng(seed)
    shifts, distances, raw = [], {}, []
    for attribute, (values, a, b) in counts.items():
        n, m = int(a.sum()), int(b.sum())
        for value, i, j in zip(values.tolist(), a.tolist(), b.tolist(), strict=True):
            name = named[attribute][value] if attribute in named else str(value)
            interval = difference(j, m, i, n, z)
            shifts.append(ValueShift(attribute, value, name, i, j, i / n, j / m, j / m - i / n, interval))
        # Exchanging real and generated at random leaves the totals; the real counts are hypergeometric.
        exchanged = rng.multivariate_hypergeometric(a + b, n, size=permutations)
        floor = float(_total_variation(exchanged, a + b - exchanged).mean())
        value, error = float(_total_variation(a, b)), _standard_error(a, b)
        extreme = np.count_nonzero(_chi2(exchanged, a + b) >= _chi2(a, a + b) * (1 - 1e-12))
        raw.append((1 + int(extreme)) / (1 + permutations))
        within = (max(0.0, value - floor - Z95 * error), min(1.0, value + Z95 * error))
        text = signature(
            "total_variation",
            attribute=attribute,
            values=len(values),
            permutations=permutations,
            real=n,
            generated=m,
        )
        distances[attribute] = Result(value, within, floor, None, (n, m), seed, text)
    shifts.sort(key=lambda s: -abs(s.shift))
    return AttributeShift(tuple(shifts), distances, dict(zip(counts, holm(raw), strict=True)))


def _tables(
    real: Any, generated: Any, names: Any
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, Sequence[str]]]:
    """Both sides and the names by attribute, checked."""
    if isinstance(real, Mapping) != isinstance(generated, Mapping):
        raise CallError("real and generated attributes must both be arrays by name, or both one array")
    if not isinstance(real, Mapping):
        real, generated = {"class": real}, {"class": generated}
        names = None if names is None else {"class": names}
    if not real:
        raise CallError("there is no attribute to compare")
    for attribute in [*generated, *(names or {})]:
        if attribute not in real:
            raise CallError(
                f"attribute '{attribute}' is unknown among the real; {nearest(attribute, list(real))}"
            )
    for attribute in real:
        if attribute not in generated:
            raise CallError(f"the generated lack the attribute '{attribute}'")
    sides = []
    for role, side in (("real", real), ("generated", generated)):
        arrays = {k: integers(side[k], f"{role} values of '{k}'") for k in real}
        if not all(len(v) for v in arrays.values()):
            raise CallError(f"there are no {role} samples to compare")
        sides.append(arrays)
    return sides[0], sides[1], dict(names or {})


def _counts(
    attribute: str, real: np.ndarray, generated: np.ndarray, names: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values that occur, and how often in each set: (values,) each."""
    values, place = np.unique(np.concatenate([real, generated]), return_inverse=True)
    if names is not None and int(values[-1]) >= len(names):
        raise CallError(f"attribute '{attribute}' has {len(names)} names, but the value {int(values[-1])}")
    a = np.bincount(place[: len(real)], minlength=len(values))
    return values, a, np.bincount(place[len(real) :], minlength=len(values))


def _total_variation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """½ Σ |p − q| over the last axis."""
    return 0.5 * np.abs(a / a.sum(-1, keepdims=True) - b / b.sum(-1, keepdims=True)).sum(-1)


def _chi2(a: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Pearson's χ² of the 2 × K table with the rows a and total − a, up to a factor."""
    expected = total * (a.sum(-1, keepdims=True) / total.sum())
    return ((a - expected) ** 2 / total).sum(-1)


def _standard_error(a: np.ndarray, b: np.ndarray) -> float:
    """Of ½ Σ s (p − q), s = ±1 the signs of the shifts: ½ √(Var_p s/n + Var_q s/m)."""
    p, q = a / a.sum(), b / b.sum()
    s = np.sign(p - q)
    variance = sum(float((r * s**2).sum() - (r * s).sum() ** 2) / c.sum() for r, c in ((p, a), (q, b)))
    return 0.5 * math.sqrt(max(0.0, variance))

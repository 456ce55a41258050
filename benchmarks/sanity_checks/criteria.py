"""What passes: the shapes and values of the authors' `sanity_check_criteria.py` and `check_pass_fails.py`.

A criterion sees one curve, the mean over the repeats at each x. For a widely spread generated set a diversity
metric may answer low (the samples are far from each other) or high (all of the real lies inside), but must
say the same in all cases of a check: such criteria answer "low" or "high" in place of True.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np

__all__ = ["AXES", "CRITERIA", "SECOND", "Verdict", "cell"]

Axis = Literal["fidelity", "diversity"]
Verdict = bool | Literal["low", "high"]
Criterion = Callable[[np.ndarray, np.ndarray], Verdict]

AXES: tuple[Axis, ...] = ("fidelity", "diversity")


def at(x: np.ndarray, y: np.ndarray, where: float | str) -> float:
    """y at the first x, the last one, or the one that equals a number to rounding."""
    if isinstance(where, str):
        return float(y[{"first": 0, "last": -1}[where]])
    nearest = int(np.abs(x - where).argmin())
    if abs(x[nearest] - where) > 1e-6 * max(1.0, abs(where)):
        raise ValueError(f"the curve has no point at {where}")
    return float(y[nearest])


def value(where: float | str, target: float) -> Criterion:
    """Within 0.05 of the target."""
    return lambda x, y: abs(at(x, y, where) - target) <= 0.05 + 1e-12


def either(where: float | str) -> Criterion:
    """Within 0.05 of 1: "high", of 0: "low"."""

    def judge(x: np.ndarray, y: np.ndarray) -> Verdict:
        if value(where, 1.0)(x, y):
            return "high"
        return "low" if value(where, 0.0)(x, y) else False

    return judge


def bell(middle: float) -> Criterion:
    """Both ends at least 0.2 below the middle, which is within 0.1 of the highest, and one end within 0.1 of
    the lowest."""

    def judge(x: np.ndarray, y: np.ndarray) -> Verdict:
        top = at(x, y, middle)
        return bool(
            top - y[0] >= 0.2
            and top - y[-1] >= 0.2
            and y.max() - top <= 0.1
            and min(y[0], y[-1]) - y.min() <= 0.1
        )

    return judge


def falling(x: np.ndarray, y: np.ndarray) -> Verdict:
    """The first at least 0.2 above the last; each within 0.1 of the highest and the lowest."""
    return bool(y[0] - y[-1] >= 0.2 and y.max() - y[0] <= 0.1 and y[-1] - y.min() <= 0.1)


def rising(x: np.ndarray, y: np.ndarray) -> Verdict:
    return falling(x, y[::-1])


def falling_by(quantile: float) -> Criterion:
    """Falling, and already 0.1 down at this quantile of the x."""

    def judge(x: np.ndarray, y: np.ndarray) -> Verdict:
        point = np.quantile(x, quantile, method="nearest")
        return bool(falling(x, y)) and bool(y[0] - at(x, y, float(point)) >= 0.1)

    return judge


def level(x: np.ndarray, y: np.ndarray) -> Verdict:
    """The highest at most 0.05 above the lowest."""
    return bool(y.max() - y.min() <= 0.05)


def settled(x: np.ndarray, y: np.ndarray) -> Verdict:
    """Level from the median of the x on."""
    late = x >= np.median(x)
    return level(x[late], y[late])


def low_or_high(low: Criterion, high: Criterion) -> Criterion:
    def judge(x: np.ndarray, y: np.ndarray) -> Verdict:
        if low(x, y):
            return "low"
        return "high" if high(x, y) else False

    return judge


def zero_ends() -> list[Criterion]:
    return [value("first", 0.0), value("last", 0.0)]


def around(middle: float) -> list[Criterion]:
    """1 where the sets are alike, 0 at both ends."""
    return [value(middle, 1.0), *zero_ends()]


Rules = dict[str, dict[str, list[Criterion]]]


def _both(criteria: list[Criterion]) -> dict[str, list[Criterion]]:
    return dict.fromkeys(AXES, criteria)


SECOND = {
    "Hypercube, sample size": "data",
    "Hypercube, generated size": "hyperparameters",
    "Scaling one dimension": "invariance",
}
"""Each check has two cells. One is `purpose` (the shape of the curve) and the other `bounds` (its values),
but here one of the two carries another of the paper's desiderata: of the cubes the value is the purpose and
the shape this one; of the scaling the shape is this one and the values are the bounds."""

CRITERIA: dict[str, Rules] = {
    "Gaussian mean": {"purpose": _both([bell(0.0)]), "bounds": _both(around(0.0))},
    "Gaussian mean + outlier": {"purpose": _both([bell(0.0)]), "bounds": _both(around(0.0))},
    "Gaussian mean + Pareto": {"purpose": _both([bell(0.0)]), "bounds": _both(around(0.0))},
    "Gaussian standard deviation": {
        "purpose": {"fidelity": [falling], "diversity": [low_or_high(bell(1.0), rising)]},
        "bounds": {
            "fidelity": [value(1.0, 1.0), value("first", 1.0), value("last", 0.0)],
            "diversity": [value(1.0, 1.0), value("first", 0.0), either("last")],
        },
    },
    "Simultaneous mode dropping": {
        "purpose": {"fidelity": [level], "diversity": [falling_by(0.95)]},
        "bounds": {"fidelity": [value("first", 1.0), value("last", 1.0)], "diversity": [value("first", 1.0)]},
    },
    "Sequential mode dropping": {
        "purpose": {"fidelity": [level], "diversity": [falling_by(0.5)]},
        "bounds": {"fidelity": [value("first", 1.0), value("last", 1.0)], "diversity": [value("first", 1.0)]},
    },
    "Mode dropping + invention": {
        "purpose": {"fidelity": [falling], "diversity": [rising]},
        "bounds": {
            "fidelity": [value(5.0, 1.0), value("first", 1.0)],
            "diversity": [value(5.0, 1.0), value("last", 1.0)],
        },
    },
    "Hypersphere surface": {"purpose": _both([bell(1.0)]), "bounds": _both(around(1.0))},
    "Hypercube, sample size": {"purpose": _both([value("last", 0.2)]), "data": _both([settled])},
    "Hypercube, generated size": {
        "purpose": _both([value("last", 0.2)]),
        "hyperparameters": _both([settled]),
    },
    "Sphere vs. torus": {"purpose": _both([settled]), "bounds": _both([value("last", 0.0)])},
    "Mode collapse": {
        "purpose": {"fidelity": [falling], "diversity": [low_or_high(falling, level)]},
        "bounds": _both([value("first", 1.0)]),
    },
    "Scaling one dimension": {"invariance": _both([level]), "bounds": _both(zero_ends())},
    "One disjoint dimension": {"purpose": _both([level]), "bounds": _both(zero_ends())},
    "Discrete vs. continuous": {"purpose": _both([level]), "bounds": {}},
}

_DISCRETE: dict[tuple[str, str], list[Criterion]] = {
    ("real discrete", "fidelity"): zero_ends(),
    ("real discrete", "diversity"): [either("first"), either("last")],
    ("real continuous", "fidelity"): [value("first", 1.0), value("last", 1.0)],
    ("real continuous", "diversity"): zero_ends(),
}
"""The one check whose bounds differ by case: continuous samples are never right where the real ones are whole
numbers; whole numbers are all possible where the real ones are continuous, but cover almost nothing of it."""


def cell(check: str, kind: str, axis: Axis, curves: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> Verdict:
    """Whether a metric passes one cell: every criterion in every case (case, x, y), not low here and high
    there."""
    answers: set[Verdict] = set()
    for case, x, y in curves:
        if check == "Discrete vs. continuous" and kind == "bounds":
            criteria = _DISCRETE[case, axis]
        else:
            criteria = CRITERIA[check][kind][axis]
        answers |= {judge(x, y) for judge in criteria}
    if False in answers or {"low", "high"} <= answers:
        return False
    return "low" if "low" in answers else "high" if "high" in answers else True

"""What every metric returns: a number that says how sure it is, what it would be for a perfect model, and how
to repeat it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from niwaki.core.errors import CallError
from niwaki.core.version import __version__

__all__ = ["Z95", "Result", "at_least_zero", "mean_interval", "normal_interval", "signature", "wilson"]

Z95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal."""


def signature(metric: str, **settings: Any) -> str:
    """A string that says exactly what was computed and by which version, as sacrebleu's:
    `metric:frechet|ddof:1|…|niwaki:0.1.0`."""
    parts = [f"metric:{metric}"] + [f"{k}:{v}" for k, v in settings.items() if v is not None]
    parts.append(f"niwaki:{__version__}")
    return "|".join(parts)


@dataclass(frozen=True)
class Result:
    """One measured number.

    value:      the metric
    interval:   95 % interval, or None where none was asked for
    floor:      the value expected of a perfect generator with these sample sizes (from a closed form, or
                measured between two real sets), or None where it is not known
    per_sample: one score per generated sample (per real sample for recall and coverage), or None
    n:          numbers of samples (real, generated)
    seed:       of the random part, None where there is none
    signature:  repeats the computation
    endless:    whether ∞ is a value of this metric, and no overflow

    Raises CallError for a value that is no number.
    """

    value: float
    interval: tuple[float, float] | None
    floor: float | None
    per_sample: np.ndarray | None = field(repr=False, compare=False)
    n: tuple[int, int]
    seed: int | None
    signature: str
    endless: bool = field(default=False, kw_only=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raises CallError for what is no number: `max(0, nan)` is 0, and comparisons with NaN are false, so
        that an overflow would else end as a perfect score."""
        ends = (self.value, *(self.interval or ()))
        if any(math.isnan(end) for end in ends) or (math.isinf(self.value) and not self.endless):
            name = self.signature.split("|", 1)[0].removeprefix("metric:")
            of = f" with the interval {self.interval}" if self.interval else ""
            raise CallError(
                f"{name} cannot be had: it came out as {self.value}{of}, for the numbers that it is made of "
                "are too large or too few"
            )

    def with_floor(self, floor: float) -> Result:
        return replace(self, floor=float(floor))

    def to_json(self) -> dict[str, Any]:
        """Everything but the per-sample scores."""
        return {
            "value": self.value,
            "interval": None if self.interval is None else list(self.interval),
            "floor": self.floor,
            "n": list(self.n),
            "seed": self.seed,
            "signature": self.signature,
        }

    def __float__(self) -> float:
        return self.value


def normal_interval(value: float, standard_error: float) -> tuple[float, float]:
    """value ± 1.96 standard errors."""
    return (value - Z95 * standard_error, value + Z95 * standard_error)


def wilson(hits: float, n: int, z: float = Z95) -> tuple[float, float]:
    """Interval of a share, 95 % by default (Wilson 1927): stays inside 0 … 1 and has a width even at 0 and 1;
    0 … 1 where n = 0."""
    if n < 1:
        return (0.0, 1.0)
    p, z2 = float(hits) / n, z * z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # The ends are exact at 0 and 1; their rounding is not.
    return (0.0 if p == 0 else max(0.0, centre - half), 1.0 if p == 1 else min(1.0, centre + half))


def at_least_zero(value: float) -> float:
    """max(0, value) of what only rounding brings below 0; NaN stays NaN, where `max` would make it 0."""
    return value if math.isnan(value) else max(0.0, value)


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of independent values."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return (-math.inf, math.inf)
    return normal_interval(float(array.mean()), float(array.std(ddof=1)) / math.sqrt(len(array)))

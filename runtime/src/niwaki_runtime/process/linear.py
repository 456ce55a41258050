"""The straight path of flow matching (Lipman et al. 2023; Liu, Gong & Liu 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from niwaki_runtime.errors import CallError
from niwaki_runtime.process.base import Process, register

__all__ = ["LinearPath", "shifted"]

CLOCK = 1000.0
"""The network's clock runs from 0 to this, the range for which embeddings of time are made."""


def shifted(t: Any, shift: float) -> Any:
    """k t / (1 + (k − 1) t): times nearer to the noise for k > 1 (Esser et al. 2024, Equation 23)."""
    return shift * t / (1.0 + (shift - 1.0) * t)


@register
@dataclass(frozen=True)
class LinearPath(Process):
    """x_t = (1 − t) x₀ + t ε with t in 0 … 1, of which the velocity is dx/dt = ε − x₀.

    shift:   k of `shifted`, in training and sampling; 1 leaves times as they are
    density: of t in training, before the shift: `uniform`, or `logit_normal` (Esser et al. 2024, Equation 19)
    spacing: of the times that are visited, before the shift: `trailing`: t = 1 − i/N; `linspace`: even from 1
             to `least`
    least:   last time of `linspace`, above 0
    """

    kind: ClassVar[str] = "linear"
    predictions: ClassVar[tuple[str, ...]] = ("velocity", "x0")
    shift: float = 1.0
    density: Literal["uniform", "logit_normal"] = "uniform"
    spacing: Literal["trailing", "linspace"] = "trailing"
    least: float = 0.0

    def __post_init__(self) -> None:
        if self.shift <= 0.0:
            raise CallError(f"the shift of the process 'linear' must be above 0, not {self.shift}")
        if self.density not in _DENSITIES:
            raise CallError(
                f"the process 'linear' has the densities {', '.join(_DENSITIES)}, not '{self.density}'"
            )
        if self.spacing not in ("trailing", "linspace"):
            raise CallError(f"the process 'linear' has the spacings trailing, linspace, not '{self.spacing}'")
        if self.spacing == "linspace" and not 0.0 < self.least < 1.0:
            raise CallError(f"the spacing 'linspace' ends at a 'least' time within 0 … 1, not {self.least:g}")

    def alpha_sigma(self, t: Any, xp: Any = math) -> tuple[Any, Any]:
        if xp is math:
            t = max(t, 0.0)
        return 1.0 - t, t

    def time_at(self, ratio: float) -> float:
        return ratio / (1.0 + ratio) if ratio < math.inf else 1.0

    def times(self, steps: int) -> tuple[float, ...]:
        if steps < 1:
            raise CallError(f"a sampler takes at least one step, not {steps}")
        end, intervals = (0.0, steps) if self.spacing == "trailing" else (self.least, max(steps - 1, 1))
        return tuple(shifted(1.0 - (1.0 - end) * i / intervals, self.shift) for i in range(steps))

    def nested(self) -> LinearPath:
        return replace(self, spacing="trailing", least=0.0)

    def to_json(self) -> dict[str, Any]:
        record = super().to_json()
        if not self.least:  # older runtimes do not know it
            del record["least"]
        return record

    def network_time(self, t: Any, xp: Any = math) -> Any:
        return CLOCK * t

    def training_time(self, z: Any, xp: Any = math) -> Any:
        return shifted(_DENSITIES[self.density](z, xp), self.shift)


def _uniform(z: Any, xp: Any) -> Any:
    """Φ(z) is uniform where z is normal."""
    return 0.5 * xp.erfc(-math.sqrt(0.5) * z)


def _logit_normal(z: Any, xp: Any) -> Any:
    return 1.0 / (1.0 + xp.exp(-z))


_DENSITIES = {"uniform": _uniform, "logit_normal": _logit_normal}

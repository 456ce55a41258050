"""The variance-preserving path of DDPM with discrete training timesteps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from niwaki_runtime.errors import CallError
from niwaki_runtime.process.base import Process, register
from niwaki_runtime.process.conversions import Conversion
from niwaki_runtime.process.schedules import alpha_bars, timesteps

__all__ = ["VariancePreserving"]


@register
@dataclass(frozen=True)
class VariancePreserving(Process):
    """α_t² = ∏ (1 − β) and α² + σ² = 1 (Ho, Jain & Abbeel 2020, Equation 4); t is a training timestep.

    schedule:    `cosine`, `sigmoid`, `linear` or `scaled_linear`; the latter two also as `linear(1e-4, 0.02)`
    train_steps: timesteps of the forward process in training
    spacing:     which timesteps are visited: `trailing`, `linspace` or `leading`; more in `SPACINGS`
    offset:      added to every visited timestep
    last:        where sampling ends: `clean` (α = 1), or at timestep `zero`, which keeps a little noise
    zero_terminal_snr: α is 0 at the last timestep, so that training sees the pure noise that sampling starts
                 from (`alpha_bars`); what is then said must not be ε, which determines no x₀ there
    """

    kind: ClassVar[str] = "variance_preserving"
    predictions: ClassVar[tuple[str, ...]] = ("epsilon", "x0", "v", "velocity")
    preserves_variance: ClassVar[bool] = True
    schedule: str = "cosine"
    train_steps: int = 1000
    spacing: str = "trailing"
    offset: int = 0
    last: Literal["clean", "zero"] = "clean"
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        if self.last not in ("clean", "zero"):
            raise CallError(f"sampling ends 'clean' or at timestep 'zero', not at '{self.last}'")
        if self.zero_terminal_snr and self.train_steps < 2:
            raise CallError("zero_terminal_snr needs at least two timesteps: one of them is pure noise")
        self._bars()  # raises for a bad schedule

    def _bars(self) -> tuple[float, ...]:
        return alpha_bars(self.schedule, self.train_steps, self.zero_terminal_snr)

    @property
    def timesteps(self) -> int:
        return self.train_steps

    def alpha_sigma(self, t: Any, xp: Any = math) -> tuple[Any, Any]:
        """(α, σ) at a single timestep `t`. Between two timesteps σ/α is interpolated."""
        if t < 0 and self.last == "clean":
            return 1.0, 0.0
        bars, t = self._bars(), max(t, 0)
        bar, share = bars[int(t)], t % 1.0
        if share:
            # Of pure noise σ/α has no value to interpolate to: one as of float32's least α stands for it.
            ratio = [math.sqrt(1.0 / max(b, 2.0**-24) - 1.0) for b in (bar, bars[int(t) + 1])]
            bar = 1.0 / (1.0 + ((1.0 - share) * ratio[0] + share * ratio[1]) ** 2)
        return math.sqrt(bar), math.sqrt(1.0 - bar)

    def time_at(self, ratio: float) -> float:
        low, high = 0.0, float(self.train_steps - 1)
        for _ in range(64):  # σ/α rises with t, whatever lies between two timesteps
            middle = 0.5 * (low + high)
            a, s = self.alpha_sigma(middle)
            low, high = (middle, high) if s < ratio * a else (low, middle)
        return high

    def times(self, steps: int) -> tuple[float, ...]:
        return timesteps(self.spacing, self.train_steps, steps, self.offset)

    def nested(self) -> VariancePreserving:
        return replace(self, spacing="trailing", offset=0)

    def conversion(self, prediction: str) -> Conversion:
        if self.zero_terminal_snr and prediction == "epsilon":
            raise CallError(
                "with zero_terminal_snr the network cannot say ε, which determines no x₀ in pure noise; "
                "choose v, x0 or velocity"
            )
        return super().conversion(prediction)

    def to_json(self) -> dict[str, Any]:
        # Older runtimes do not know the option.
        record = super().to_json()
        if not self.zero_terminal_snr:
            del record["zero_terminal_snr"]
        return record

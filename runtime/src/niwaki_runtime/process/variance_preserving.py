"""The variance-preserving path of DDPM with discrete training timesteps."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, ClassVar, Literal

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.process.base import Process, register
from niwaki_runtime.process.conversions import Conversion
from niwaki_runtime.process.schedules import RATIOS, alpha_bars, timesteps

__all__ = ["VariancePreserving"]

_LATER = ("zero_terminal_snr", "terminal", "betas", "ratios", "least_ratio", "greatest_ratio", "clock")
"""Fields that manifests name where they are set: runtimes of before know the others."""
_FAINTEST = 2.0**-24
"""ᾱ that stands for 0 where σ/α has to have a value: its root is float16's least α."""


@register
@dataclass(frozen=True)
class VariancePreserving(Process):
    """α_t² = ∏ (1 − β) and α² + σ² = 1 (Ho, Jain & Abbeel 2020, Equation 4); t is a training timestep.

    schedule:    `cosine`, `sigmoid`, `linear` or `scaled_linear`; the latter two also as `linear(1e-4, 0.02)`
    train_steps: timesteps of the forward process in training
    spacing:     which timesteps are visited: `trailing`, `linspace` or `leading`; more in `SPACINGS`
    offset:      added to every visited timestep
    last:        where sampling ends: `clean` (α = 1), or at timestep `zero`, which keeps a little noise;
                 `zero_scaled` divides what is there by its α
    zero_terminal_snr: α is 0 at the last timestep, so that training sees the pure noise that sampling starts
                 from (`alpha_bars`); what is then said must not be ε, which determines no x₀ there
    terminal:    ᾱ at that timestep instead of 0, for solvers that divide by it
    betas:       β of every timestep, instead of the schedule's
    ratios:      `karras` or `exponential`: the times that are visited lie so that σ/α does (`RATIOS`), from
                 that of the first time of `spacing` to that of its last; empty for those of `spacing`
    least_ratio, greatest_ratio: σ/α at the two ends instead; 0 leaves those of `spacing`
    clock:       what the network is told of a time between two timesteps: it, `exact`, or the `nearest`
    """

    kind: ClassVar[str] = "variance_preserving"
    predictions: ClassVar[tuple[str, ...]] = ("epsilon", "x0", "v", "velocity")
    preserves_variance: ClassVar[bool] = True
    schedule: str = "cosine"
    train_steps: int = 1000
    spacing: str = "trailing"
    offset: int = 0
    last: Literal["clean", "zero", "zero_scaled"] = "clean"
    zero_terminal_snr: bool = False
    terminal: float = 0.0
    betas: tuple[float, ...] = ()
    ratios: str = ""
    least_ratio: float = 0.0
    greatest_ratio: float = 0.0
    clock: Literal["exact", "nearest"] = "exact"

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(map(float, self.betas)))  # a list, as JSON has it
        if self.last not in ("clean", "zero", "zero_scaled"):
            raise CallError(f"sampling ends 'clean' or at timestep 'zero', not at '{self.last}'")
        if self.zero_terminal_snr and self.train_steps < 2:
            raise CallError("zero_terminal_snr needs at least two timesteps: one of them is pure noise")
        if self.clock not in ("exact", "nearest"):
            raise CallError(f"the network is told the 'exact' or the 'nearest' time, not '{self.clock}'")
        if self.ratios and self.ratios not in RATIOS:
            raise CallError(f"there are no ratios '{self.ratios}'; {nearest(self.ratios, RATIOS)}")
        bars = self._bars()  # raises for a bad schedule
        if self.ratios and bars[-1] > min(bars):
            raise CallError(
                f"the schedule leaves ᾱ = {min(bars):g} before its last timestep and {bars[-1]:g} there: "
                "times cannot be found by their σ/α"
            )
        if self.least_ratio or self.greatest_ratio:
            self._check_ends()

    def _bars(self) -> tuple[float, ...]:
        return alpha_bars(self.schedule, self.train_steps, self.zero_terminal_snr, self.betas, self.terminal)

    def _ratio(self, t: float) -> float:
        """σ/α at a timestep. Of pure noise it has no value: one as of the faintest α stands for it."""
        return math.sqrt(1.0 / (self._bars()[int(t)] or _FAINTEST) - 1.0)

    def _check_ends(self) -> None:
        low, high = self._ratio(0), self._ratio(self.train_steps - 1)
        for name in ("least_ratio", "greatest_ratio"):
            end = getattr(self, name)
            if end and not low * (1.0 - 1e-6) <= end <= high * (1.0 + 1e-6):
                raise CallError(f"{name} {end:g} lies outside of the schedule's σ/α, {low:g} … {high:g}")

    @property
    def timesteps(self) -> int:
        return self.train_steps

    def alpha_sigma(self, t: Any, xp: Any = math) -> tuple[Any, Any]:
        """(α, σ) at a single timestep `t`. Between two timesteps σ/α is interpolated; where times are visited
        by their `ratios`, its logarithm."""
        if t < 0 and self.last != "zero":
            return 1.0, self._ratio(0) if self.last == "zero_scaled" else 0.0
        bars, t = self._bars(), max(t, 0)
        bar, share = bars[int(t)], t % 1.0
        if share:
            low, high = self._ratio(t), self._ratio(t + 1)
            ratio = (1.0 - share) * low + share * high if not self.ratios else low * (high / low) ** share
            bar = 1.0 / (1.0 + ratio**2)
        return math.sqrt(bar), math.sqrt(1.0 - bar)

    def time_at(self, ratio: float) -> float:
        low, high = 0.0, float(self.train_steps - 1)
        for _ in range(64):  # σ/α rises with t, whatever lies between two timesteps
            middle = 0.5 * (low + high)
            a, s = self.alpha_sigma(middle)
            low, high = (middle, high) if s < ratio * a else (low, middle)
        return high

    def times(self, steps: int) -> tuple[float, ...]:
        return _visited(self, steps)

    def network_time(self, t: Any, xp: Any = math) -> Any:
        if self.clock == "exact":
            return t
        return float(round(t)) if xp is math else xp.round(t)

    def nested(self) -> VariancePreserving:
        return replace(self, spacing="trailing", offset=0, ratios="", least_ratio=0.0, greatest_ratio=0.0)

    def conversion(self, prediction: str) -> Conversion:
        if self.zero_terminal_snr and prediction == "epsilon":
            raise CallError(
                "with zero_terminal_snr the network cannot say ε, which determines no x₀ in pure noise; "
                "choose v, x0 or velocity"
            )
        return super().conversion(prediction)

    def to_json(self) -> dict[str, Any]:
        record = super().to_json()
        plain = {f.name: f.default for f in fields(self) if f.name in _LATER}
        return {name: v for name, v in record.items() if name not in plain or v != plain[name]}


@cache
def _visited(process: VariancePreserving, steps: int) -> tuple[float, ...]:
    """The times of `spacing`, or those between whose σ/α lie as `ratios` says."""
    times = timesteps(process.spacing, process.train_steps, steps, process.offset)
    if not process.ratios:
        return times
    least = process.least_ratio or process._ratio(times[-1])
    greatest = process.greatest_ratio or process._ratio(times[0])
    wanted = RATIOS[process.ratios](least, greatest, steps)
    return tuple(map(process.time_at, wanted))

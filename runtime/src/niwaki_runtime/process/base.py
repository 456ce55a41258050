"""What every diffusion process is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, TypeVar

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.field_types import as_table, check_fields
from niwaki_runtime.process.conversions import CONVERSIONS, Conversion, conversion

__all__ = ["END", "Process", "process_from_json", "register"]

Array = Any

END = -1.0
"""The time that lies behind the last one visited, where sampling ends. All other times are 0 or more."""

_PROCESSES: dict[str, type[Process]] = {}

Kind = TypeVar("Kind", bound="type[Process]")


def register(cls: Kind) -> Kind:
    """Make a process readable from JSON by its `kind`."""
    _PROCESSES[cls.kind] = cls
    return cls


@dataclass(frozen=True)
class Process:
    """x_t = α_t x₀ + σ_t ε: levels, the times that a sampler visits, and how a network is asked at them.

    Subclasses are frozen dataclasses with JSON-able fields and a `kind`. Where a method takes `xp`, it is
    `math` for a Python float and `torch` for a tensor of times.

    predictions:        what a network may say on this path
    preserves_variance: α² + σ² = 1 at every time, which ancestral sampling asks for
    timesteps:          how many times there are in training: 0 … timesteps − 1; 0 for a continuum
    """

    kind: ClassVar[str]
    predictions: ClassVar[tuple[str, ...]]
    preserves_variance: ClassVar[bool] = False

    @property
    def timesteps(self) -> int:
        return 0

    def alpha_sigma(self, t: Any, xp: Any = math) -> tuple[Any, Any]:
        """(α, σ) at time `t`; at `END` those at which sampling ends."""
        raise NotImplementedError(f"{type(self).__name__} does not say its levels")

    def time_at(self, ratio: float) -> float:
        """The time at which σ/α is `ratio`, the nearest one where there is none: `alpha_sigma` turned round.
        Of a discrete process it may lie between two timesteps."""
        raise NotImplementedError(f"{type(self).__name__} does not say at which time a level is reached")

    def times(self, steps: int) -> tuple[float, ...]:
        """The `steps` times at which a sampler asks the network, the noisiest first; then comes `END`.

        Raises CallError where there cannot be so many.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say which times are visited")

    def levels(self, steps: int) -> list[tuple[float, float]]:
        """(α, σ) at each visited time and at the end: one more than there are steps."""
        return [self.alpha_sigma(t) for t in (*self.times(steps), END)]

    def nested(self) -> Process:
        """The same path, visited so that the times of N steps are every other one of those of 2N."""
        return self

    def network_time(self, t: Any, xp: Any = math) -> Any:
        """What the network is told instead of `t`."""
        return t

    def network_input(self, x: Array, a: Any, s: Any) -> Array:
        """What the network is given instead of `x`."""
        return x

    def training_time(self, z: Any, xp: Any = math) -> Any:
        """A standard normal `z` as a time from the distribution that training draws from; of a continuum
        only."""
        raise NotImplementedError(f"{type(self).__name__} draws its times from 0 … {self.timesteps - 1}")

    def loss_weight(self, prediction: str, a: Any, s: Any) -> Any:
        """Weight of ‖prediction − target‖² in the loss."""
        return 1.0

    def start_scale(self, steps: int) -> float:
        """Standard deviation of the noise that sampling starts from."""
        return 1.0

    def conversion(self, prediction: str) -> Conversion:
        """How a prediction type is read. Raises CallError for one that this path does not have."""
        if prediction in CONVERSIONS and prediction not in self.predictions:
            raise CallError(
                f"the process '{self.kind}' has no prediction '{prediction}'; "
                f"choose {', '.join(self.predictions)}"
            )
        return conversion(prediction, self._conversions())

    def _conversions(self) -> Mapping[str, Conversion]:
        return {name: CONVERSIONS[name] for name in self.predictions if name in CONVERSIONS}

    def override(self, **changes: Any) -> Process:
        """A copy with some fields changed; raises CallError for a field that does not exist."""
        names = {f.name for f in fields(self)}
        for name in changes:
            if name not in names:
                raise CallError(f"the process '{self.kind}' has no option '{name}'; {nearest(name, names)}")
        check_fields(type(self), changes, f"the process '{self.kind}'")
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


def process_from_json(record: Mapping[str, Any]) -> Process:
    """The process that `to_json` described. Raises CallError for an unknown kind or option."""
    rest = as_table(record, "a diffusion process must be a table with its 'kind'")
    kind = str(rest.pop("kind", None))
    if kind not in _PROCESSES:
        raise CallError(f"this runtime knows no diffusion process '{kind}'; {nearest(kind, _PROCESSES)}")
    return _PROCESSES[kind]().override(**rest)

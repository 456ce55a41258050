"""Samplers in a row: a prior and its decoder, a base and its super-resolution."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, register, sampler_from_json

__all__ = ["Cascade"]

_LEG = 1 << 24  # draws that one leg may use before it would meet the next


@register
@dataclass(frozen=True)
class Cascade(Sampler):
    """Each leg's samples become a condition of the legs after it; the last leg's samples are the result.

    legs:    samplers, in order
    outputs: the name under which each leg's samples are handed on (the last one is not used)
    """

    kind: ClassVar[str] = "cascade"
    legs: tuple[Sampler, ...] = ()
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.legs or len(self.outputs) < len(self.legs) - 1:
            raise CallError("a cascade needs at least one leg and a name for the output of each but the last")

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        known = dict(conditions)
        out: Array = None
        for k, leg in enumerate(self.legs):
            own = Noise(noise.backend, noise.seed, noise.start, noise.n, base=noise.base + k * _LEG)
            out = leg(graphs, own, known, project=project, progress=progress)
            if k + 1 < len(self.legs):
                known[self.outputs[k]] = out
        return out

    def graphs_used(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for leg in self.legs for name in leg.graphs_used()))

    def evaluations(self) -> int:
        return sum(leg.evaluations() for leg in self.legs)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "legs": [leg.to_json() for leg in self.legs],
            "outputs": list(self.outputs),
        }

    @classmethod
    def from_fields(cls, record: dict[str, Any]) -> Sampler:
        legs = tuple(sampler_from_json(leg) for leg in record.get("legs", ()))
        return cls(legs=legs, outputs=tuple(record.get("outputs", ())))

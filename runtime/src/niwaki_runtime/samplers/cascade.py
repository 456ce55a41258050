"""Samplers in a row: a prior and its decoder, a base and its super-resolution."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.base import (
    Array,
    Noise,
    Runner,
    Sampler,
    override_each,
    register,
    sampler_from_json,
)

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
        total, done, base = self.evaluations(), 0, noise.base
        out: Array = None
        for k, leg in enumerate(self.legs):
            own = replace(noise, base=base)
            told = _part(progress, done, leg.evaluations(), total) if progress else None
            out = leg(graphs, own, known, project=project, progress=told)
            if k + 1 < len(self.legs):
                known[self.outputs[k]] = out
            done += leg.evaluations()
            base += _spans(leg) * _LEG
        return out

    def alike(self, noise: Noise, conditions: Mapping[str, np.ndarray]) -> list[Hashable]:
        """What those legs say whose conditions no other leg makes."""
        first = [leg for leg in self.legs if set(leg.conditions_used()) <= set(conditions)]
        return list(zip(*[leg.alike(noise, conditions) for leg in first], strict=True)) or [()] * noise.n

    def override(self, **changes: Any) -> Self:
        """A copy with options changed in each leg that has them; raises CallError for one that no leg has."""
        if not changes:
            return self
        return replace(self, legs=override_each(self.legs, changes, "no leg of this cascade"))

    def parts(self) -> tuple[Sampler, ...]:
        return tuple(part for leg in self.legs for part in leg.parts())

    def graphs_used(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for leg in self.legs for name in leg.graphs_used()))

    def conditions_used(self) -> tuple[str, ...]:
        """What no earlier leg makes."""
        found: list[str] = []
        for k, leg in enumerate(self.legs):
            found += [name for name in leg.conditions_used() if name not in self.outputs[:k]]
        return tuple(dict.fromkeys(found))

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


def _spans(leg: Sampler) -> int:
    """How many ranges of draws a leg takes: a cascade within a cascade takes one for each of its own legs."""
    return len(leg.parts())


def _part(
    progress: Callable[[int, int], None], done: int, share: int, total: int
) -> Callable[[int, int], None]:
    """A leg's own progress as its share of the whole."""
    return lambda i, of: progress(done + share * i // of, total)

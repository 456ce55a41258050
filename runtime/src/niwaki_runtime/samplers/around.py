"""Samplers around a diffusion sampler: they change where it begins, or hold it to something on its way."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.base import Sampler, sampler_from_json
from niwaki_runtime.samplers.diffusion import Diffusion

__all__ = ["AroundDiffusion"]


@dataclass(frozen=True)
class AroundDiffusion(Sampler):
    """Its options are its `own` and all of the diffusion sampler, whose network it calls.

    sampler: the diffusion sampler
    own:     names of the fields that are options
    given:   names of the fields that name conditions, which are given beside those of the sampler
    refusal: what is said of another kind of sampler inside, `{kind}`
    """

    own: ClassVar[tuple[str, ...]]
    given: ClassVar[tuple[str, ...]]
    refusal: ClassVar[str]
    sampler: Diffusion = field(default_factory=Diffusion)

    def override(self, **changes: Any) -> Self:
        """A copy with options of its own and of the diffusion sampler changed; raises CallError for one that
        neither has."""
        own = {name: changes.pop(name) for name in self.own if name in changes}
        return replace(super().override(**own), sampler=self.sampler.override(**changes))

    def options(self) -> set[str]:
        return {*self.own, *self.sampler.options()}

    def parts(self) -> tuple[Sampler, ...]:
        return self.sampler.parts()

    def graphs_used(self) -> tuple[str, ...]:
        return self.sampler.graphs_used()

    def conditions_used(self) -> tuple[str, ...]:
        return (*(getattr(self, name) for name in self.given), *self.sampler.conditions_used())

    def evaluations(self) -> int:
        return self.sampler.evaluations()

    def to_json(self) -> dict[str, Any]:
        rest = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "sampler"}
        return {"kind": self.kind, "sampler": self.sampler.to_json(), **rest}

    @classmethod
    def from_fields(cls, record: dict[str, Any]) -> Sampler:
        inner = sampler_from_json(record.pop("sampler", {"kind": Diffusion.kind}))
        if not isinstance(inner, Diffusion):
            raise CallError(cls.refusal.format(kind=inner.kind))
        return cls(inner, **record)

"""Inpainting: a diffusion sampler that is held to what is known after every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import END
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, register, sampler_from_json
from niwaki_runtime.samplers.diffusion import Diffusion

__all__ = ["Inpaint"]


@register
@dataclass(frozen=True)
class Inpaint(Sampler):
    """Samples that agree with a known part: m ⊙ (α known + σ ε) + (1 − m) ⊙ x after every solver step (Song
    et al. 2021, "Score-based generative modeling through SDEs", Appendix I.2; Lugmayr et al. 2022, "RePaint",
    Equation 8).

    α and σ are those of the time at which x then is. At the end known values are what was given.

    sampler: the diffusion sampler
    known:   name of the condition that holds the known values, of the shape of a sample
    mask:    name of the condition that is 1 where they are known and 0 elsewhere; it broadcasts against one
    """

    kind: ClassVar[str] = "inpaint"
    sampler: Diffusion = field(default_factory=Diffusion)
    known: str = "known"
    mask: str = "mask"

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        known, mask = conditions[self.known], conditions[self.mask]
        unknown = 1.0 - mask

        def hold(x: Array, t: float, draw: int) -> Array:
            if project is not None:
                x = project(x, t, draw)
            if t == END:
                return mask * known + unknown * x
            a, s = self.sampler.level(t)
            fresh = noise.normal(self.sampler.shape, stream="project", draw=draw)
            return mask * (a * known + s * fresh) + unknown * x

        return self.sampler(graphs, noise, conditions, project=hold, progress=progress)

    def override(self, **changes: Any) -> Self:
        """A copy with options of the diffusion sampler changed; raises CallError for one that it lacks."""
        return replace(self, sampler=self.sampler.override(**changes)) if changes else self

    def options(self) -> set[str]:
        return self.sampler.options()

    def parts(self) -> tuple[Sampler, ...]:
        return self.sampler.parts()

    def graphs_used(self) -> tuple[str, ...]:
        return self.sampler.graphs_used()

    def conditions_used(self) -> tuple[str, ...]:
        return (self.known, self.mask, *self.sampler.conditions_used())

    def evaluations(self) -> int:
        return self.sampler.evaluations()

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "sampler": self.sampler.to_json(), "known": self.known, "mask": self.mask
        }  # fmt: skip

    @classmethod
    def from_fields(cls, record: dict[str, Any]) -> Sampler:
        inner = sampler_from_json(record.get("sampler", {}))
        if not isinstance(inner, Diffusion):
            raise CallError(f"inpainting is done around a diffusion sampler, not around '{inner.kind}'")
        return cls(inner, *(str(record[name]) for name in ("known", "mask") if name in record))

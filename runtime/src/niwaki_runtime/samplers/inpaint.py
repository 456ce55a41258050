"""Inpainting: a diffusion sampler that is held to what is known after every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import END
from niwaki_runtime.samplers.around import AroundDiffusion
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, register

__all__ = ["Inpaint"]


@register
@dataclass(frozen=True)
class Inpaint(AroundDiffusion):
    """Samples that agree with a known part: m ⊙ (α known + σ ε) + (1 − m) ⊙ x after every solver step (Song
    et al. 2021, "Score-based generative modeling through SDEs", Appendix I.2; Lugmayr et al. 2022, "RePaint",
    Equation 8).

    α and σ are those of the time at which x then is. At the end known values are what was given.

    With `repeats` every step is Euler's and is taken so often: before each further time x is noised back to
    where the step began (RePaint, Algorithm 1, with jumps of one step), on any path by
    x_t = (α/α') x' + √(σ² − (α σ'/α')²) ε. What is made then minds what is known.

    sampler: the diffusion sampler
    known:   name of the condition that holds the known values, of the shape of a sample
    mask:    name of the condition that is 1 where they are known and 0 elsewhere; it broadcasts against one
    repeats: how often each step is taken; 1 leaves the sampler's solver as it is
    """

    kind: ClassVar[str] = "inpaint"
    own: ClassVar[tuple[str, ...]] = ("repeats",)
    given: ClassVar[tuple[str, ...]] = ("known", "mask")
    refusal: ClassVar[str] = "inpainting is done around a diffusion sampler, not around '{kind}'"
    known: str = "known"
    mask: str = "mask"
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise CallError(f"repeats must be at least 1, not {self.repeats}")

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

        if self.repeats == 1:
            return self.sampler(graphs, noise, conditions, project=hold, progress=progress)
        return self._repeated(graphs, noise, conditions, hold, progress)

    def _repeated(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        hold: Callable[[Array, float, int], Array],
        progress: Callable[[int, int], None] | None,
    ) -> Array:
        plan = self.sampler
        times, levels = plan.process.times(plan.steps), plan.process.levels(plan.steps)
        ask, done, total = plan.predictor(graphs, noise, conditions), 0, self.evaluations()
        x = noise.normal(plan.shape) * (plan.start_scale * plan.process.start_scale(plan.steps))
        for i, t in enumerate(times):
            (a, s), (a_next, s_next) = levels[i], levels[i + 1]
            after = times[i + 1] if i + 1 < len(times) else END
            back = a / a_next
            fresh = math.sqrt(max(s**2 - (back * s_next) ** 2, 0.0))
            for k in range(i * self.repeats, (i + 1) * self.repeats):
                if k > i * self.repeats:
                    x = back * x + fresh * noise.normal(plan.shape, stream="step", draw=k)
                x0, eps = ask(x, t, levels[i])
                x = hold(a_next * x0 + s_next * eps, after, k)
                done += plan.cost(t)
                if progress:
                    progress(done, total)
        return x

    def evaluations(self) -> int:
        if self.repeats == 1:
            return self.sampler.evaluations()
        return self.repeats * sum(map(self.sampler.cost, self.sampler.process.times(self.sampler.steps)))

    def to_json(self) -> dict[str, Any]:
        record = super().to_json()
        if self.repeats == 1:
            del record["repeats"]  # older runtimes do not know the option
        return record

    @classmethod
    def from_fields(cls, record: dict[str, Any]) -> Sampler:
        return super().from_fields({"sampler": {}, **record})  # which has always had to be said

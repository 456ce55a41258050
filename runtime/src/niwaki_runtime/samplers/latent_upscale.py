"""Enlarging by a diffusion sampler of latents, its autoencoder around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import END
from niwaki_runtime.samplers.around import AroundDiffusion
from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Noise, Runner, register
from niwaki_runtime.samplers.blocks import means_of, with_means

__all__ = ["LatentUpscale"]


@register
@dataclass(frozen=True)
class LatentUpscale(AroundDiffusion):
    """Samples whose means of `factor` × `factor` pixels are those of `known`, pictures of the samples' shape.

    At every step the x₀ of the network is decoded, its means are replaced, and x₀ moves by what that changes
    in the latents: x₀ + E(y') − E(y) with y = D(x₀), y' = y − M y + M known (Wang, Yu & Zhang 2023, "DDNM",
    Equation 13, through the autoencoder as in Song et al. 2024, "ReSample"). ε stays, and the step is
    Euler's. After the last one the means are exact, within `bound`.

    sampler: the diffusion sampler of latents
    encoder, decoder: graphs of one input: samples → latents and back
    known:   name of the condition that holds the pictures
    factor:  side of the blocks
    bound:   of |values| of samples, 0 for none
    """

    kind: ClassVar[str] = "latent_upscale"
    own: ClassVar[tuple[str, ...]] = ("factor",)
    given: ClassVar[tuple[str, ...]] = ("known",)
    refusal: ClassVar[str] = "enlarging is done around a diffusion sampler, not around '{kind}'"
    encoder: str = "encoder"
    decoder: str = "decoder"
    known: str = "known"
    factor: int = 2
    bound: float = 1.0

    def __post_init__(self) -> None:
        if self.factor < 1 or self.bound < 0.0:
            raise CallError(f"factor is at least 1 and bound at least 0, not {self.factor} and {self.bound}")

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        plan, f, known = self.sampler, self.factor, conditions[self.known]
        xp = noise.backend.namespace(known)
        wanted = means_of(xp, known, f, f)
        times, levels = plan.process.times(plan.steps), plan.process.levels(plan.steps)
        ask, done, total = plan.predictor(graphs, noise, conditions), 0, self.evaluations()
        x = noise.normal(plan.shape) * (plan.start_scale * plan.process.start_scale(plan.steps))
        for i, t in enumerate(times):
            x0, eps = ask(x, t, levels[i])
            y = self._call(graphs, self.decoder, x0)
            held = with_means(xp, y, f, wanted, self.bound)
            x0 = x0 + self._call(graphs, self.encoder, held) - self._call(graphs, self.encoder, y)
            a, s = levels[i + 1]
            x = a * x0 + s * eps
            if project is not None:
                x = project(x, times[i + 1] if i + 1 < len(times) else END, i)
            done += plan.cost(t)
            if progress:
                progress(done, total)
        return with_means(xp, self._call(graphs, self.decoder, x), f, wanted, self.bound)

    @staticmethod
    def _call(graphs: Mapping[str, Runner], name: str, x: Array) -> Array:
        return outputs(graphs[name](x))[0]

    def graphs_used(self) -> tuple[str, ...]:
        return (self.encoder, *self.sampler.graphs_used(), self.decoder)

    def evaluations(self) -> int:
        return sum(map(self.sampler.cost, self.sampler.process.times(self.sampler.steps)))

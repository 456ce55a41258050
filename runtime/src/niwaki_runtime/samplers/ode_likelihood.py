"""How probable samples are by a diffusion model: its probability flow backwards, and how volumes change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, register, sampler_from_json
from niwaki_runtime.samplers.diffusion import Diffusion
from niwaki_runtime.samplers.guidance import guided_output

__all__ = ["OdeLikelihood"]

_BROAD = 25.0
"""Variance of the broadest direction that the visited levels are made for: even in log(1 + 25 (α/σ)²), they
are close where such a direction emerges from the noise."""


@register
@dataclass(frozen=True)
class OdeLikelihood(Sampler):
    """log p(x) in nats `(n,)` by the instantaneous change of variables (Chen et al. 2018; Song et al. 2021,
    "Score-based generative modeling through SDEs", Appendix D.2).

    With z = x/σ and u = α/σ the probability flow of every path is dz = x₀(z) du, hence
    log p(z) changes by −tr(∂x₀/∂z) du, until z is standard normal. Heun's method, and for tr the trapezoid
    in u, from u = 1 on in log(1 + u²), in which it is constant where the data are standard normal. The trace
    is that of x₀ in x, as vᵀ(∂x₀/∂x)v on average over v of signs (Hutchinson 1989), or exactly, v being every
    unit vector.

    It is the density of x₀ + `floor` ε rather than of x₀, which for stored levels is none. Nothing is
    clipped or guided.

    sampler: the diffusion whose density it is: path, prediction, conditions
    graph:   name of its denoiser with a derivative: (x, t, *conditions, v) → the output and its derivative
             along v
    x:       name of the condition that holds the samples; of the others those that are not given are asked
             as nothing (`null`)
    given:   names of the sampler's conditions that are given
    steps:   of Heun's method, two calls each, or as many as there are probes
    probes:  draws of v; 0 for the exact trace, whose calls are as many as values
    floor:   σ/α at which the flow begins, or the least that the path has
    """

    kind: ClassVar[str] = "ode_likelihood"
    sampler: Diffusion = field(default_factory=Diffusion)
    graph: str = "derivative"
    x: str = "x"
    given: tuple[str, ...] = ()
    steps: int = 32
    probes: int = 1
    floor: float = 0.002

    def __post_init__(self) -> None:
        if self.steps < 1 or self.probes < 0 or self.floor <= 0.0:
            raise CallError(
                "a likelihood takes steps of at least 1, probes of at least 0 and a floor above 0, not "
                f"{self.steps}, {self.probes} and {self.floor}"
            )
        for name in self.sampler.conditions:
            if name not in self.given and name not in self.sampler.null:
                raise CallError(f"the condition '{name}' has no null value, and must be given")

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        plan, backend, n = self.sampler, noise.backend, noise.n
        process, read = plan.process, plan.process.conversion(plan.prediction).to_x0_eps
        asked = {name: conditions[name] for name in self.given}
        for name in plan.conditions:
            if name not in asked:
                asked[name] = backend.asarray(np.full(n, plan.null[name], np.int64))
        alone = replace(plan, graph=self.graph, guidance=1.0, guide="", also=(), also_weights=())
        output = guided_output(alone, graphs, noise, asked)
        size, done, total = math.prod(plan.shape), 0, self.evaluations()

        def denoised(z: Array, t: float, level: tuple[float, float]) -> tuple[Array, np.ndarray]:
            """x₀ and σ tr(∂x₀/∂x), float64 `(n,)`."""
            nonlocal done
            (a, s), trace, x0 = level, np.zeros(n), z
            x = z * s
            for v in self._directions(noise):
                given = process.network_input(x, a, s)
                out, slope = output(given, process.network_time(t), (1.0,), process.network_input(v, a, s))
                x0, _ = read(x, out, a, s)
                x0_slope, _ = read(v, slope, a, s)  # what is read is linear in x and out
                along = backend.numpy(v * x0_slope).reshape(n, size).astype(np.float64).sum(1)
                trace += along / (self.probes or 1)
                done += 1
                if progress:
                    progress(done, total)
            return x0, s * trace

        times = self.times()
        levels = [process.alpha_sigma(t) for t in times]
        (a, s), z = levels[0], conditions[self.x] * (levels[0][0] / levels[0][1])
        change = np.full(n, size * math.log(a / s))
        for i, ((a, s), (a_next, s_next)) in enumerate(pairwise(levels)):
            u, u_next = a / s, a_next / s_next
            x0, trace = denoised(z, times[i], levels[i])
            ahead = z + (u_next - u) * x0
            x0_ahead, trace_ahead = denoised(ahead, times[i + 1], levels[i + 1])
            z = z + (0.5 * (u_next - u)) * (x0 + x0_ahead)
            if u_next < 1.0:  # in u itself: a rate would divide a network's small errors by u
                change += 0.5 * (u_next - u) * (trace + trace_ahead)
                continue
            rate, rate_ahead = trace * (u + 1.0 / u), trace_ahead * (u_next + 1.0 / u_next)
            change += 0.25 * math.log((1.0 + u_next**2) / (1.0 + u * u)) * (rate + rate_ahead)
        scale = plan.start_scale * process.start_scale(plan.steps) / levels[-1][1]
        last = backend.numpy(z).reshape(n, size).astype(np.float64) / scale
        normal = 0.5 * np.square(last).sum(1) + size * math.log(math.sqrt(2.0 * math.pi) * scale)
        nats = change - normal
        return backend.asarray(nats.astype(np.float32))

    def _directions(self, noise: Noise) -> Any:
        """v `(n, *shape)` float32, one after another; the same at every level."""
        shape, size = (noise.n, *self.sampler.shape), math.prod(self.sampler.shape)
        for k in range(self.probes or size):
            if self.probes:
                v = np.where(noise.uniform(size, stream="step", draw=k) < 0.5, -1.0, 1.0)
            else:
                v = np.broadcast_to(np.eye(1, size, k), (noise.n, size))
            yield noise.backend.asarray(v.astype(np.float32).reshape(shape))

    def times(self) -> tuple[float, ...]:
        """The `steps` + 1 times that are visited, the cleanest first."""
        process = self.sampler.process
        first = process.time_at(self.floor)
        last = float(process.timesteps - 1) if process.timesteps else process.times(1)[0]
        ends = [math.log1p(_BROAD * (a / s) ** 2) for a, s in map(process.alpha_sigma, (first, last))]
        between = (ends[0] + i / self.steps * (ends[1] - ends[0]) for i in range(1, self.steps))
        return (first, *(process.time_at(math.sqrt(_BROAD / math.expm1(w))) for w in between), last)

    def graphs_used(self) -> tuple[str, ...]:
        return (*dict.fromkeys((*self.sampler.encoders.values(), self.graph)),)

    def conditions_used(self) -> tuple[str, ...]:
        return (self.x, *self.given)

    def evaluations(self) -> int:
        return 2 * self.steps * (self.probes or math.prod(self.sampler.shape))

    def to_json(self) -> dict[str, Any]:
        # `asdict` would turn the sampler into fields without its kind.
        return {**super().to_json(), "sampler": self.sampler.to_json()}

    @classmethod
    def from_fields(cls, record: dict[str, Any]) -> Sampler:
        inner = sampler_from_json(record.pop("sampler", {"kind": Diffusion.kind}))
        if not isinstance(inner, Diffusion):
            raise CallError(f"a likelihood of this kind is a diffusion sampler's, not one of '{inner.kind}'")
        return cls(**{**record, "sampler": inner, "given": tuple(record.get("given", ()))})

"""Sampling from an average velocity: one call of the network for each step, however long the step is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.process import END
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, check_shape, register

__all__ = ["MeanFlow"]


@register
@dataclass(frozen=True)
class MeanFlow(Sampler):
    """x_r = x_t − (t − r) u(x_t, t, r, *conditions) from t = 1, noise, to r = 0, a sample (Geng et al. 2025,
    "Mean flows for one-step generative modeling", Equation 12).

    u is the velocity of the straight path x_t = (1 − t) x₀ + t ε, averaged from r to t along the flow.

    shape:      of one sample
    graph:      name of the network; t and r are float32 `(n,)` in 0 … 1
    steps:      of equal length; each costs one call
    conditions: names of the conditions, in the order of the network's inputs after r
    clip:       bound of the samples, 0 for none
    """

    kind: ClassVar[str] = "mean_flow"
    shape: tuple[int, ...] = (1,)
    graph: str = "average_velocity"
    steps: int = 1
    conditions: tuple[str, ...] = ()
    clip: float = 1.0

    def __post_init__(self) -> None:
        check_shape(self.shape, "the sampler 'mean_flow'")
        if self.steps < 1:
            raise CallError(f"a sampler takes at least one step, not {self.steps}")

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        graph, backend = graphs[self.graph], noise.backend
        asked = [conditions[name] for name in self.conditions]

        def clock(t: float) -> Array:
            return backend.asarray(np.full(noise.n, t, dtype=np.float32))

        x = noise.normal(self.shape)
        for i, (t, r) in enumerate(pairwise(1.0 - k / self.steps for k in range(self.steps + 1))):
            x = x - (t - r) * graph(x, clock(t), clock(r), *asked)
            last = i + 1 == self.steps
            if last and self.clip > 0.0:
                x = x.clip(-self.clip, self.clip)
            if project:
                x = project(x, END if last else r, i)
            if progress:
                progress(i + 1, self.steps)
        return x

    def graphs_used(self) -> tuple[str, ...]:
        return (self.graph,)

    def evaluations(self) -> int:
        return self.steps

"""One call of a style-based generator: latents, noise of its layers, and how far styles may lie from their
mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, check_shape, register

__all__ = ["StyleBased"]


@register
@dataclass(frozen=True)
class StyleBased(Sampler):
    """x = graph(z, noise, *conditions, ψ).

    latent:     length of z, from which the style w comes
    noise:      normals that the layers of one sample add, all together; sample i of a seed has the same ones
                whatever became of the network
    graph:      name of the graph
    conditions: names of the conditions, in the order of the graph's inputs
    truncation: ψ of w̄ + ψ (w − w̄), w̄ the mean style: 1 leaves styles as they are, 0 gives the mean style,
                between them diversity is traded for fidelity (Karras et al. 2019, Section 3)
    """

    kind: ClassVar[str] = "style_based"
    latent: int = 1
    noise: int = 1
    graph: str = "generator"
    conditions: tuple[str, ...] = ()
    truncation: float = 1.0

    def __post_init__(self) -> None:
        check_shape((self.latent,), "the sampler 'style_based'")
        check_shape((self.noise,), "the sampler 'style_based'")

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        z, layers = noise.normal((self.latent,)), noise.normal((self.noise,), draw=1)
        psi = noise.backend.asarray(np.full((noise.n, 1), self.truncation, np.float32))
        out = graphs[self.graph](z, layers, *(conditions[name] for name in self.conditions), psi)
        if progress:
            progress(1, 1)
        return outputs(out)[0]

    def draws_latents(self, graph: str | None = None) -> bool:
        return graph in (None, self.graph)

    def graphs_used(self) -> tuple[str, ...]:
        return (self.graph,)

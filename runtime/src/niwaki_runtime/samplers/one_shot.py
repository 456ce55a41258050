"""One call of one graph: GAN generators, VAE decoders, inverse flows, translators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, check_shape, register

__all__ = ["OneShot"]


@register
@dataclass(frozen=True)
class OneShot(Sampler):
    """x = graph(z, *conditions), or graph(*conditions) where `latent` is None.

    latent:      shape of the noise of one sample, or None for a graph without noise (a decoder, a translator)
    graph:       name of the graph
    conditions:  names of the conditions, in the order of the graph's inputs after z
    temperature: standard deviation of the noise; below 1 trades diversity for fidelity
    """

    kind: ClassVar[str] = "one_shot"
    latent: tuple[int, ...] | None = None
    graph: str = "generator"
    conditions: tuple[str, ...] = ()
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_shape(self.latent, "the sampler 'one_shot'")

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        inputs = [conditions[name] for name in self.conditions]
        if self.latent is not None:
            z = noise.normal(self.latent)
            inputs.insert(0, z if self.temperature == 1.0 else z * self.temperature)
        out = graphs[self.graph](*inputs)
        if progress:
            progress(1, 1)
        return outputs(out)[0]

    def draws_latents(self, graph: str | None = None) -> bool:
        return self.latent is not None and graph in (None, self.graph)

    def graphs_used(self) -> tuple[str, ...]:
        return (self.graph,)

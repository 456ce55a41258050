"""How many bits a sample takes by a model with latents, and what a codec needs to know to write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, check_shape, register

__all__ = ["BitsBack"]


@register
@dataclass(frozen=True)
class BitsBack(Sampler):
    """Bits of x at one draw u ~ q(u | x): −log₂ p(x | u) − log₂ p(u) + log₂ q(u | x), p(u) = N(0, I).

    Their mean over draws is −ELBO: what bits-back coding spends (Hinton & van Camp 1993; Townsend, Bird &
    Barber 2019, arXiv:1901.04866).

    posterior:  graph (u, x, *conditions) → mean and log σ of q, each `(n, latents)`. A group's may depend on
                the values u of the groups before it, never on its own or later ones
    likelihood: graph (u, *conditions) → log-weights of every level of every value `(n, size, levels)`
    groups:     lengths of the groups of latents, in the order in which they are drawn
    low, high:  the levels' range
    conditions: names of the conditions after x
    """

    kind: ClassVar[str] = "bits_back"
    posterior: str = "posterior"
    likelihood: str = "likelihood"
    groups: tuple[int, ...] = (1,)
    low: float = -1.0
    high: float = 1.0
    conditions: tuple[str, ...] = ("x",)

    def __post_init__(self) -> None:
        if not self.groups or min(self.groups) < 1:
            raise CallError(f"the sampler 'bits_back' needs groups of one latent or more, not {self.groups}")
        check_shape((self.latents,), "the sampler 'bits_back'")

    @property
    def latents(self) -> int:
        """Latents of one sample."""
        return sum(self.groups)

    def bounds(self) -> list[tuple[int, int]]:
        """Where each group begins and ends."""
        ends = [sum(self.groups[: i + 1]) for i in range(len(self.groups))]
        return [(end - size, end) for end, size in zip(ends, self.groups, strict=True)]

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        x, *asked = (conditions[name] for name in self.conditions)
        eps = noise.normal((self.latents,))
        xp = noise.backend.namespace(eps)
        u, nats = eps * 0.0, 0.0
        for i, (start, end) in enumerate(self.bounds()):
            mean, log_deviation = (p[:, start:end] for p in graphs[self.posterior](u, x, *asked))
            part = mean + xp.exp(log_deviation) * eps[:, start:end]
            # log q − log p, both normal: the constants cancel
            nats = nats + xp.sum(
                0.5 * part * part - log_deviation - 0.5 * eps[:, start:end] * eps[:, start:end], axis=1
            )
            u = xp.concat([u[:, :start], part, u[:, end:]], axis=1)
            if progress:
                progress(i + 1, len(self.groups) + 1)
        out = graphs[self.likelihood](u, *asked)
        weights = outputs(out)[0]
        top = xp.max(weights, axis=-1, keepdims=True)
        log_p = weights - top - xp.log(xp.sum(xp.exp(weights - top), axis=-1, keepdims=True))
        levels = weights.shape[-1]
        at = (xp.reshape(x, (x.shape[0], -1, 1)) - self.low) / (self.high - self.low) * (levels - 1)
        place = xp.arange(levels, dtype=at.dtype, device=at.device)
        is_level = xp.astype(xp.abs(at - place) < 0.5, weights.dtype)
        nats = nats - xp.sum(xp.sum(log_p * is_level, axis=-1), axis=1)
        if progress:
            progress(len(self.groups) + 1, len(self.groups) + 1)
        return nats / math.log(2.0)

    def draws_latents(self, graph: str | None = None) -> bool:
        return graph in (None, self.posterior, self.likelihood)

    def graphs_used(self) -> tuple[str, ...]:
        return (self.posterior, self.likelihood)

    def evaluations(self) -> int:
        return len(self.groups) + 1

"""How probable tokens are at least, by a network that says masked places."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, register
from niwaki_runtime.samplers.tokens import log_probability

__all__ = ["MaskedBound"]

_HELD = 1 << 20  # logits in float64 at a time


@register
@dataclass(frozen=True)
class MaskedBound(Sampler):
    """An unbiased estimate of the ELBO of absorbing diffusion, in nats `(n,)`: on average at most log p(x).

    ∫₀¹ 1/t E[Σ_masked log p(xᵢ | rest)] dt, each place masked with probability t (Sahoo et al. 2024; Shi et
    al. 2024). Of k masked places ∫ tᵏ⁻¹(1 − t)ᴸ⁻ᵏ dt is 1/(k · C(L, k)): the ELBO is the mean over k = 1 … L,
    each equally likely, of L/k · Σ_masked log p(xᵢ | rest), any k places masked (Hoogeboom et al. 2022,
    "Autoregressive diffusion models"). The k of a sample's draws are spread evenly from one random start.

    length, mask, graph: as of `Masked`
    conditions: names of the conditions, x first
    draws:      calls of the network
    """

    kind: ClassVar[str] = "masked_bound"
    length: int = 1
    mask: int = 0
    graph: str = "predictor"
    conditions: tuple[str, ...] = ("x",)
    draws: int = 8

    def __post_init__(self) -> None:
        if self.length < 1 or self.draws < 1:
            raise CallError(f"length and draws must be at least 1, not {self.length} and {self.draws}")

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
        x = np.asarray(backend.numpy(conditions["x"]), np.int64).reshape(noise.n, self.length)
        asked = [conditions[name] for name in self.conditions[1:]]
        start, nats = noise.uniform(), np.zeros(noise.n)
        for draw in range(self.draws):
            t = (start + draw / self.draws) % 1.0
            count = np.minimum((t * self.length).astype(np.int64) + 1, self.length)  # (n, 1)
            places = noise.uniform(self.length, stream="step", draw=draw)
            hidden = places.argsort(1, kind="stable").argsort(1, kind="stable") < count
            out = graph(backend.asarray(np.where(hidden, self.mask, x)), *asked)
            logits = backend.numpy(outputs(out)[0])
            said = np.zeros(x.shape)
            rows = max(1, _HELD // logits[0].size)
            for part in (slice(at, at + rows) for at in range(0, noise.n, rows)):
                here = hidden[part]
                said[part][here] = log_probability(logits[part][here], x[part][here])
            nats += said.sum(1) * self.length / count[:, 0] / self.draws
            if progress:
                progress(draw + 1, self.draws)
        return backend.asarray(nats.astype(np.float32))

    def graphs_used(self) -> tuple[str, ...]:
        return (self.graph,)

    def evaluations(self) -> int:
        return self.draws

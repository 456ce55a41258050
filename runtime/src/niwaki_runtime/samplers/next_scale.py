"""Codes of growing scales, all of a scale in one call (Tian et al. 2024, "VAR")."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, register
from niwaki_runtime.samplers.reading import carry
from niwaki_runtime.samplers.tokens import Chooses

__all__ = ["NextScale"]


@register
@dataclass(frozen=True)
class NextScale(Chooses, Sampler):
    """logits, *state = graph(codes, scale, *conditions, *state), once per scale.

    Given codes of coarser scales those of one are independent of each other.

    counts:     places of each scale, coarse to fine; a sample is all of them in a row
    graph:      name of the graph: codes `(n, Σ counts)`, of which those before the scale are read; the scale
                `(1,)`; the conditions; its state. Its logits are `(n, t, V)`, t at least the scale's places,
                and its new rows are written where the scale begins
    conditions: names of the conditions, in the order of the graph's inputs
    temperature, top_k, top_p, min_p: of the choice of a code (`tokens.Choice`)
    """

    kind: ClassVar[str] = "next_scale"
    counts: tuple[int, ...] = (1,)
    graph: str = "prior"
    conditions: tuple[str, ...] = ()
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        _ = self.choice  # refuses settings that choose no code
        if not self.counts or min(self.counts) < 1:
            raise CallError(f"every scale of the sampler 'next_scale' has places, not {self.counts}")

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
        codes = np.zeros((noise.n, sum(self.counts)), dtype=np.int64)
        state = [backend.asarray(s.zeros(noise.n)) for s in graph.state]
        start = 0
        for scale, count in enumerate(self.counts):
            at = backend.asarray(np.array([scale], dtype=np.int64))
            out = graph(backend.asarray(codes.copy()), at, *asked, *state)
            rows, *news = outputs(out)
            state = carry(state, news, graph.state, start)
            logits = backend.numpy(rows[:, :count])
            u = noise.uniform(count, draw=scale)
            chosen = self.choice(logits.reshape(noise.n * count, -1), u.reshape(-1, 1))
            codes[:, start : start + count] = chosen.reshape(noise.n, count)
            start += count
            if progress:
                progress(scale + 1, len(self.counts))
        return backend.asarray(codes)

    def graphs_used(self) -> tuple[str, ...]:
        return (self.graph,)

    def evaluations(self) -> int:
        return len(self.counts)

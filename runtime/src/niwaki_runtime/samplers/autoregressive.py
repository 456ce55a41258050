"""Token after token, with the network's state carried along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import tokens
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, register

__all__ = ["Autoregressive"]


@register
@dataclass(frozen=True)
class Autoregressive(Sampler):
    """logits, *state = graph(token, position, *conditions, *state), once per position.

    length:      tokens to make
    first:       the token that stands before the first one
    graph:       name of the graph; its inputs are token `(n,)`, position `(1,)`, the conditions, then its
                 state
    conditions:  names of the conditions, in the order of the graph's inputs
    temperature: 0 is greedy
    top_k:       0 keeps all
    top_p:       1 keeps all
    """

    kind: ClassVar[str] = "autoregressive"
    length: int = 1
    first: int = 0
    graph: str = "decode"
    conditions: tuple[str, ...] = ()
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0.0 or self.top_k < 0 or not 0.0 < self.top_p <= 1.0:
            raise CallError(
                "temperature and top_k must not be negative and top_p must lie in (0, 1], "
                f"not {self.temperature}, {self.top_k} and {self.top_p}"
            )

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
        state = [backend.asarray(s.zeros(noise.n)) for s in graph.state]
        token = np.full(noise.n, self.first, dtype=np.int64)
        made = np.empty((noise.n, self.length), dtype=np.int64)
        for position in range(self.length):
            at = backend.asarray(np.array([position], dtype=np.int64))
            out = graph(backend.asarray(token), at, *asked, *state)
            logits, *state = out if isinstance(out, tuple) else (out,)
            token = tokens.choose(
                backend.numpy(logits),
                noise.uniform(draw=position),
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
            )
            made[:, position] = token
            if progress:
                progress(position + 1, self.length)
        return backend.asarray(made)

    def graphs_used(self) -> tuple[str, ...]:
        return (self.graph,)

    def evaluations(self) -> int:
        return self.length

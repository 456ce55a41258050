"""How many bits a sample takes by a model that says each token's distribution, and what a codec needs to
write them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.autoregressive import Autoregressive
from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Backend, Noise, Runner, Sampler, register
from niwaki_runtime.samplers.reading import carry
from niwaki_runtime.samplers.tokens import log_probability

__all__ = ["DirectCoding"]


@register
@dataclass(frozen=True)
class DirectCoding(Sampler):
    """Bits of x: −Σ log₂ p(tokenᵢ | the tokens before it), which is what an entropy coder spends.

    length:     tokens of a sample
    first:      the token that stands before the first one
    graph:      (token, position, *conditions, *state) → logits, *state, as of `Autoregressive`; it says the
                distributions both ways, since another (`prefill`) might round otherwise
    conditions: names of the conditions, x first
    read:       graph that makes tokens of x; empty where x is tokens
    draw:       graph that makes x of tokens again, with loss; empty where x is tokens
    """

    kind: ClassVar[str] = "direct_coding"
    length: int = 1
    first: int = 0
    graph: str = "decode"
    conditions: tuple[str, ...] = ("x",)
    read: str = ""
    draw: str = ""

    def __post_init__(self) -> None:
        if self.length < 1:
            raise CallError(f"a sample of the sampler 'direct_coding' has tokens, not {self.length}")
        if bool(self.read) != bool(self.draw):
            raise CallError("the sampler 'direct_coding' needs both of 'read' and 'draw', or neither")

    @classmethod
    def of(cls, sampler: Autoregressive, *, read: str = "", draw: str = "") -> Self:
        """What codes the tokens that `sampler` makes."""
        asked = ("x", *sampler.conditions)
        return cls(sampler.length, sampler.first, sampler.graph, asked, read, draw)

    def tokens(self, graphs: Mapping[str, Runner], x: Array, backend: Backend) -> np.ndarray:
        """Samples `(n, *shape)` → their tokens `(n, length)` int64."""
        if self.read:
            out = graphs[self.read](x)
            x = outputs(out)[0]
        return np.asarray(backend.numpy(x), np.int64).reshape(len(x), self.length)

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        backend, graph = noise.backend, graphs[self.graph]
        found = self.tokens(graphs, conditions["x"], backend)
        asked = [conditions[name] for name in self.conditions[1:]]
        state = [backend.asarray(s.zeros(len(found))) for s in graph.state]
        fed = np.concatenate([np.full((len(found), 1), self.first), found[:, :-1]], axis=1).astype(np.int64)
        nats = np.zeros(len(found))
        for at in range(self.length):
            place = backend.asarray(np.array([at], np.int64))
            out = graph(backend.asarray(fed[:, at].copy()), place, *asked, *state)
            logits, *news = outputs(out)
            state = carry(state, news, graph.state, at)
            nats -= log_probability(backend.numpy(logits), found[:, at])
            if progress:
                progress(at + 1, self.length)
        return backend.asarray((nats / math.log(2.0)).astype(np.float32))

    def graphs_used(self) -> tuple[str, ...]:
        return tuple(name for name in (self.graph, self.read, self.draw) if name)

    def evaluations(self) -> int:
        return self.length

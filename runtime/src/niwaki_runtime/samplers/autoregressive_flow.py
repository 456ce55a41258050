"""The inverse of an autoregressive flow: block after block, in each of them token after token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, check_shape, register
from niwaki_runtime.samplers.reading import carry

__all__ = ["AutoregressiveFlow"]


@register
@dataclass(frozen=True)
class AutoregressiveFlow(Sampler):
    """x_t, *state = block(x_before, z_t, step, *conditions, *state) for every token t, in every block.

    The tokens that a block makes are the z of the next one; x = end(tokens, one after another).

    tokens, width: z is `(n, tokens · width)`
    blocks:        names of the graphs, in the order of the calls; `x_before` `(n, width)` is the token that
                   the call before has made, zeros at first, and `step` `(1,)` counts calls
    backwards:     for each block whether it begins with the last token
    end:           name of the graph that makes samples of tokens
    conditions:    names of the conditions, in the order of the inputs of every block
    latent:        name of the condition that is z; z is drawn where it is empty
    temperature:   standard deviation of what is drawn; below 1 trades diversity for fidelity
    """

    kind: ClassVar[str] = "autoregressive_flow"
    tokens: int = 1
    width: int = 1
    blocks: tuple[str, ...] = ()
    backwards: tuple[bool, ...] = ()
    end: str = "end"
    conditions: tuple[str, ...] = ()
    latent: str = ""
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_shape((self.tokens, self.width), "the sampler 'autoregressive_flow'")
        if not self.blocks or len(self.blocks) != len(self.backwards):
            raise CallError(
                "the sampler 'autoregressive_flow' needs a block or more, and a direction for each of them, "
                f"not {len(self.blocks)} and {len(self.backwards)}"
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
        asked = [conditions[name] for name in self.conditions]
        z = conditions[self.latent] if self.latent else noise.normal((self.tokens * self.width,))
        z = z if self.latent or self.temperature == 1.0 else z * self.temperature
        xp, x = noise.backend.namespace(z), z.reshape(noise.n, self.tokens, self.width)
        steps = [noise.backend.asarray(np.array([t], dtype=np.int64)) for t in range(self.tokens)]
        for i, (name, backwards) in enumerate(zip(self.blocks, self.backwards, strict=True)):
            graph, made = graphs[name], {}
            state = [noise.backend.asarray(s.zeros(noise.n)) for s in graph.state]
            before = xp.zeros_like(x[:, 0])
            for t, step in enumerate(steps):
                place = self.tokens - 1 - t if backwards else t
                before, *news = graph(before, x[:, place], step, *asked, *state)
                state = carry(state, news, graph.state, t)
                made[place] = before
                if progress:
                    progress(i * self.tokens + t + 1, self.evaluations())
            x = xp.stack([made[place] for place in range(self.tokens)], axis=1)
        out = graphs[self.end](x.reshape(noise.n, self.tokens * self.width))
        if progress:
            progress(self.evaluations(), self.evaluations())
        return outputs(out)[0]

    def graphs_used(self) -> tuple[str, ...]:
        return (*self.blocks, self.end)

    def conditions_used(self) -> tuple[str, ...]:
        return (self.latent, *self.conditions) if self.latent else self.conditions

    def evaluations(self) -> int:
        return len(self.blocks) * self.tokens + 1

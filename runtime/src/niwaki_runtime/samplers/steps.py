"""Series value after value: each step's distribution given those before it, with the network's state carried
along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.heads import Head, Quantiles, head_from_json
from niwaki_runtime.samplers.backend import outputs
from niwaki_runtime.samplers.base import Array, Noise, Runner, Sampler, check_shape, register
from niwaki_runtime.samplers.paths import check_factor, shares, together
from niwaki_runtime.samplers.reading import carry

__all__ = ["Steps"]


@register
@dataclass(frozen=True)
class Steps(Sampler):
    """parameters, *state = step(value before, position, *conditions, *state); x_t = F_t⁻¹(Φ(z_t)), z normal.

    Where `read` names a graph, that one reads the past and says the first step:
    parameters, *state = read(*conditions, *state). Without it the first call is given zeros at position 0.

    shape:       (C, T) of a sample
    step:        name of the graph; its inputs are values `(n, C)`, position `(1,)`, the conditions, then its
                 state; it gives the head's parameters `(n, C, parameters)`
    read:        name of the graph that reads the past, with the same state; '' where there is none
    begin:       position of the first step
    head:        what the parameters mean; may be given as its JSON
    conditions:  names of the conditions, in the order of the graphs' inputs
    low, high:   bounds of the values, where there are any
    factor:      as `Paths` has it
    temperature: factor of z; below 1 paths stay nearer to the median, 0 is the median
    """

    kind: ClassVar[str] = "steps"
    shape: tuple[int, ...] = (1, 1)
    step: str = "step"
    read: str = ""
    begin: int = 0
    head: Head = field(default_factory=Quantiles)
    conditions: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    factor: tuple[tuple[float, ...], ...] = ()
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.head, Mapping):  # as JSON and calls write it
            object.__setattr__(self, "head", head_from_json(self.head))
        check_shape(self.shape, "the sampler 'steps'")
        if len(self.shape) != 2:
            raise CallError(f"the sampler 'steps' makes series (C, T), not {self.shape}")
        if self.temperature < 0.0:
            raise CallError(f"temperature must not be negative, not {self.temperature}")
        check_factor(self.factor, self.shape)

    def __call__(
        self,
        graphs: Mapping[str, Runner],
        noise: Noise,
        conditions: Mapping[str, Array],
        *,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Array:
        backend, n, (channels, steps) = noise.backend, noise.n, self.shape
        asked = [conditions[name] for name in self.conditions]
        fresh = np.asarray(backend.numpy(noise.normal(self.shape)), np.float64)
        u = shares(together(fresh, self.factor) * self.temperature)
        step = graphs[self.step]
        state = [backend.asarray(s.zeros(n)) for s in step.state]
        value = np.zeros((n, channels), np.float32)
        made = np.empty((n, channels, steps), np.float32)
        for t in range(steps):
            if t == 0 and self.read:
                reader = graphs[self.read]
                out, declared = reader(*asked, *state), reader.state
            else:
                place = backend.asarray(np.array([self.begin + t], np.int64))
                out, declared = step(backend.asarray(value), place, *asked, *state), step.state
            said, *news = outputs(out)
            state = carry(state, news, declared, 0)
            drawn = self.head.quantile(backend.numpy(said), u[..., t])
            if self.low is not None or self.high is not None:
                drawn = np.clip(drawn, self.low, self.high)
            made[..., t] = value = drawn.astype(np.float32)
            if progress:
                progress(t + 1, steps)
        return backend.asarray(made)

    @property
    def feeds_back(self) -> bool:
        return True

    def graphs_used(self) -> tuple[str, ...]:
        return (self.step, self.read) if self.read else (self.step,)

    def evaluations(self) -> int:
        return self.shape[1]

    def to_json(self) -> dict[str, Any]:
        # `asdict` would turn the head into fields without its kind.
        return {**super().to_json(), "head": self.head.to_json()}

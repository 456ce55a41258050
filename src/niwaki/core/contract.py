"""The words that every floor speaks: what a model is, what the trainer asks of it, what sampling needs.

Nothing here knows a family, a data set or a device. `docs/architecture.md` tells how the words are used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from niwaki.core.backend import TorchBackend
from niwaki.core.graph import Graph, Port, View
from niwaki.core.trainable import Batch, Context, Phase, Trainable
from niwaki_runtime.errors import BundleError, CallError, NiwakiError, first_line, nearest
from niwaki_runtime.samplers import Noise, Sampler, State
from niwaki_runtime.specs import ConditionSpec, SampleSpec, resolve

__all__ = [
    "Batch",
    "BundleError",
    "CallError",
    "ConditionSpec",
    "Context",
    "GenerativeModel",
    "Graph",
    "HasLatents",
    "HasLikelihood",
    "NiwakiError",
    "Phase",
    "Port",
    "SampleSpec",
    "State",
    "Trainable",
    "View",
    "first_line",
    "nearest",
]


class GenerativeModel(Trainable):
    """What every family is. A subclass is built from its config and the spec of its samples alone.

    name, config: how to build it again; set by registering and by the constructor
    surgery:      cuts made since it was built (`niwaki.surgery.cuts`), replayed on loading
    """

    name: str
    Config: type[Any]
    config: Any
    surgery: tuple[Any, ...] = ()
    spec: SampleSpec
    conditions: dict[str, ConditionSpec]

    @abstractmethod
    def graphs(self) -> dict[str, Graph]:
        """The networks that sampling needs, by the names that `sampler()` calls them."""

    @abstractmethod
    def sampler(self) -> Sampler:
        """How noise becomes samples through the graphs: plain data."""

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        seed: int,
        condition: Any = None,
        start: int = 0,
        batch: int = 256,
        project: Callable[[Tensor, float, int], Tensor] | None = None,
        progress: Callable[[int, int], None] | None = None,
        **overrides: Any,
    ) -> Tensor:
        """Samples start … start+n−1 of `seed`: `(n, *spec.shape)`, on the model's device.

        condition: a value, an array with one row per sample, or a mapping of condition names to either; None
                   asks for the classes in turn
        batch:     samples worked on at once; the result depends on it only by the network's own rounding
        project:   `(x, t, draw) → x` after each solver step
        progress:  called with (samples done, samples in all)
        overrides: fields of the sampler (`steps=10`, `guidance=2.0`, `temperature=0.8` …)
        Raises CallError for a condition or an option that the model does not have.
        """
        sampler = self.sampler().override(**overrides)
        graphs = self.graphs()
        first = next(self.parameters())
        backend = TorchBackend(first.device)
        if isinstance(condition, Tensor):
            condition = condition.cpu().numpy()
        asked = resolve(self.conditions, condition, start, n)
        was_training = self.training
        self.eval()
        try:
            parts = []
            for at in range(0, n, batch):
                m = min(batch, n - at)
                rows = {k: backend.asarray(v[at : at + m]) for k, v in asked.items()}
                noise = Noise(backend, seed, start + at, m)
                parts.append(sampler(graphs, noise, rows, project=project))
                if progress:
                    progress(at + m, n)
        finally:
            self.train(was_training)
        return torch.cat(parts) if parts else torch.empty((0, *self.spec.shape))


@runtime_checkable
class HasLikelihood(Protocol):
    """A model that knows how probable a sample is."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density (or a lower bound, where the docstring says so) in nats `(n,)`."""


@runtime_checkable
class HasLatents(Protocol):
    """A model with a code for every sample."""

    def encode(self, x: Tensor) -> Tensor: ...

    def decode(self, z: Tensor) -> Tensor: ...

"""The words that every package speaks: what a model is, what the trainer asks of it, what sampling needs.

Nothing here knows a family, a data set or a device. `docs/architecture.md` tells how the words are used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from niwaki.core.backend import TorchBackend
from niwaki.core.graph import Graph, Port, View
from niwaki.core.trainable import Batch, Context, Phase, Trainable
from niwaki_runtime.errors import BundleError, CallError, NiwakiError, first_line, nearest
from niwaki_runtime.programs import SAMPLING, Program, Runner, graphs_of, self_contained
from niwaki_runtime.samplers import Sampler, State
from niwaki_runtime.specs import ConditionSpec, DataSpec, Levels, Real, Tokens, ValueSpec

__all__ = [
    "Batch",
    "BundleError",
    "CallError",
    "ConditionSpec",
    "Context",
    "DataSpec",
    "GenerativeModel",
    "Graph",
    "Levels",
    "NiwakiError",
    "Phase",
    "Port",
    "Program",
    "Real",
    "Runner",
    "State",
    "Tokens",
    "Trainable",
    "ValueSpec",
    "View",
    "first_line",
    "nearest",
]


class GenerativeModel(Trainable, Runner):
    """What every family is. A subclass is built from its config and the specs of its data alone.

    name, config: how to build it again; set by registering and by the constructor
    spec:         the columns that it was built for; `x` is its sample
    conditions:   what its samples can be asked to be
    surgery:      edits made since it was built (`niwaki.surgery`), replayed on loading
    shipped:      programs that go into a bundle; empty: `sample`, and whatever needs no further graph
    files:        what goes into a bundle beside the graphs, by name (`tokenizer.json`)
    exact_likelihoods: whether `log_likelihoods` are those of its samples at temperature 1, to the constant
    example_spec: data that such a model can be built for: what a list of models shows it with
    """

    name: str
    Config: type[Any]
    config: Any
    surgery: tuple[Any, ...] = ()
    spec: DataSpec
    conditions: Mapping[str, ConditionSpec] = {}
    shipped: tuple[str, ...] = ()
    files: Mapping[str, str] = {}
    usual_batch = 256
    exact_likelihoods: ClassVar[bool] = False
    example_spec: ClassVar[DataSpec] = DataSpec.of("image", (1, 16, 16), classes=10)

    @abstractmethod
    def graphs(self) -> dict[str, Graph]:
        """The networks that programs need, by the names that their samplers call."""

    @abstractmethod
    def sampler(self) -> Sampler:
        """How samples come about: plain data."""

    def programs(self) -> dict[str, Program]:
        """What it can do: `sample`; a family adds `encode`, `decode`, `log_prob`, `translate_ab` …"""
        return {SAMPLING: Program(self.sampler(), self.conditions, self.spec.x)}

    def shipped_programs(self) -> dict[str, Program]:
        """The programs that go into a bundle. Raises CallError for a name that is none."""
        known = self.programs()
        names = self.shipped or self_contained(known)
        return {name: self.program(name) for name in dict.fromkeys((SAMPLING, *names))}

    def shipped_graphs(self) -> dict[str, Graph]:
        """The graphs that shipped programs call: what is exported, compressed and measured.

        Raises CallError where a program calls a graph that the model does not have.
        """
        graphs = self.graphs()
        for name, program in self.shipped_programs().items():
            for graph in program.sampler.graphs_used():
                if graph not in graphs:
                    hint = nearest(graph, graphs)
                    raise CallError(f"the program '{name}' calls the graph '{graph}', which is none; {hint}")
        return {name: graphs[name] for name in graphs_of(self.shipped_programs())}

    def callable_graphs(self) -> Mapping[str, Graph]:
        return self.graphs()

    def log_likelihoods(self, batch: Batch, ctx: Context) -> Tensor:
        """log π(x | conditions) of every sample of a batch, in nats `(n,)`, differentiable; or what stands in
        its place in preference tuning: a term of its bound at random times of `ctx.rng`. Raises CallError
        where a model has neither."""
        raise CallError(f"'{self.name}' says no likelihoods of samples; tune it by reward_weighted")

    def backend(self) -> TorchBackend:
        """Of the device where the weights are."""
        return TorchBackend(next(self.parameters()).device)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Evaluation mode and no gradients, as long as it lasts. Afterwards every module is in the mode that
        it was in: within a training, frozen ones are in evaluation mode."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            for module, mode in modes:
                module.training = mode

    def run(self, program: str | Program, n: int, *, inputs: Any = None, **options: Any) -> Tensor:
        """Results of a program, on the model's device, as `niwaki_runtime.programs.Runner.run` says."""
        out: Tensor = super().run(program, n, inputs=_host(inputs), **options)
        return out


def _host(inputs: Any) -> Any:
    """Tensors among inputs as arrays."""
    if isinstance(inputs, Mapping):
        return {name: _host(value) for name, value in inputs.items()}
    return np.asarray(inputs.detach().cpu()) if isinstance(inputs, Tensor) else inputs

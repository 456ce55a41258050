"""The words that every floor speaks: what a model is, what the trainer asks of it, what sampling needs.

Nothing here knows a family, a data set or a device. `docs/architecture.md` tells how the words are used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from niwaki.backend import TorchBackend
from niwaki_runtime.errors import BundleError, CallError, NiwakiError, nearest
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
    "nearest",
]


@dataclass
class Batch:
    """What a training step sees, by name.

    x:         samples `(n, *shape)` in the spec's value range
    y:         class labels `(n,)` int64
    x_b:       samples of a second domain
    condition: other conditions by name
    index:     positions in the training split `(n,)` int64
    """

    x: Tensor
    y: Tensor | None = None
    x_b: Tensor | None = None
    condition: dict[str, Tensor] = field(default_factory=dict)
    index: Tensor | None = None

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """A batch with `change` applied to every tensor."""
        values: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Tensor):
                values[f.name] = change(value)
            elif isinstance(value, dict):
                values[f.name] = {k: change(v) for k, v in value.items()}
        return replace(self, **values)


@dataclass(frozen=True)
class Phase:
    """One thing that a training step optimises.

    name:        what `loss` is told
    parameters:  names of the submodules (or parameters) that it trains; no others require gradients
    repeats:     times it is run in one step (a critic's five)
    every:       run only in steps that are multiples of it (lazy regularization)
    fresh_batch: draw a new batch for every run, or reuse the batch of the run before
    stage:       run only in this stage; None is every stage
    optimizer:   phases with the same name here share one optimizer and its moments; default: the phase's name
    double_backward: its loss holds a gradient (`create_graph=True`); such a phase is not compiled
    """

    name: str
    parameters: tuple[str, ...]
    repeats: int = 1
    every: int = 1
    fresh_batch: bool = True
    stage: str | None = None
    optimizer: str | None = None
    double_backward: bool = False

    def __post_init__(self) -> None:
        if not self.parameters:
            raise CallError(f"the phase '{self.name}' names no parameters to train")
        if self.repeats < 1 or self.every < 1:
            raise CallError(f"the phase '{self.name}' must have repeats and every of at least 1")

    @property
    def optimizer_name(self) -> str:
        return self.optimizer or self.name


@dataclass
class Context:
    """Where in training a loss is computed.

    step:      training steps finished before this one, over all stages
    progress:  share of the current stage that is done, 0 … 1
    stage:     name of the current stage
    weights:   weight of each loss term; 1 where it is not named
    rng:       generator on the batch's device, seeded by (seed, step, phase, repeat): resuming draws the same
    logged:    quantities to record that are not minimised; write with `log`
    shared:    what the phases of one step hand each other about the same batch (samples made once, say);
               empty at the start of every step
    """

    step: int
    progress: float
    stage: str
    weights: Mapping[str, float]
    rng: torch.Generator
    logged: dict[str, Tensor] = field(default_factory=dict)
    shared: dict[str, Tensor] = field(default_factory=dict)

    def log(self, **values: Tensor) -> None:
        """Record values without minimising them. No host synchronisation happens here."""
        for name, value in values.items():
            self.logged[name] = value.detach()


class Trainable(nn.Module, ABC):
    """All that the trainer asks for; encoders and classifiers are trained by it too."""

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """What one training step optimises, in order."""

    @abstractmethod
    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Named scalar terms of `phase`; the trainer minimises Σ weight·term and records each."""

    def after_step(self, ctx: Context) -> None:
        """Called once at the end of every training step, under `no_grad` (schedules kept in buffers)."""

    def trained_modules(self) -> tuple[str, ...]:
        """Names of the submodules that are trained by some phase."""
        return tuple(dict.fromkeys(p for phase in self.phases() for p in phase.parameters))


@dataclass(frozen=True)
class Port:
    """One input of a graph.

    name:       as in the exported graph
    shape:      full shape with the batch axis set to 1
    dtype:      numpy name
    batch_axis: where the samples are counted; None for an input without samples (a position)
    high:       integers are 0 … high−1 (example inputs and calibration stay inside)
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    batch_axis: int | None = 0
    high: int = 0

    def example(self, n: int, seed: int = 0) -> Tensor:
        """Values such as the graph will see: normals, or integers in 0 … high−1."""
        shape = tuple(n if axis == self.batch_axis else s for axis, s in enumerate(self.shape))
        rng = np.random.default_rng([seed, *self.name.encode()])
        if np.dtype(self.dtype).kind in "iu":
            return torch.from_numpy(rng.integers(0, max(self.high, 1), shape).astype(self.dtype))
        return torch.from_numpy(rng.standard_normal(shape).astype(self.dtype))


class View(nn.Module):
    """A method of a module, as a module: the inverse of a flow, one step of a decoder. Weights are shared."""

    def __init__(self, module: nn.Module, method: str) -> None:
        super().__init__()
        self.module = module
        self.method = method

    def forward(self, *inputs: Tensor) -> Any:
        return getattr(self.module, self.method)(*inputs)


@dataclass(frozen=True)
class Graph:
    """A network that sampling needs: a role-tagged view of modules of the model.

    role:    `generator`, `decoder`, `encoder`, `denoiser`, `prior` …: what it is for, also to compression
    module:  called with the inputs by position, then the state
    inputs:  ports, in order
    outputs: names of the outputs before the state
    state:   what it carries from call to call; state inputs follow `inputs`, state outputs follow `outputs`
    """

    role: str
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[str, ...] = ("output",)
    state: tuple[State, ...] = ()

    def example(self, n: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
        """Inputs to trace, check and export the graph with, state included; on the module's device."""
        values = [port.example(n, seed) for port in self.inputs]
        values += [torch.from_numpy(s.zeros(n)) for s in self.state]
        first = next(self.module.parameters(), None)
        return tuple(values if first is None else [v.to(first.device) for v in values])

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.inputs) + tuple(s.input for s in self.state)

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.outputs + tuple(s.output for s in self.state)

    def __call__(self, *inputs: Tensor) -> Any:
        return self.module(*inputs)


class GenerativeModel(Trainable):
    """What every family is. A subclass is built from its config and the spec of its samples alone.

    name, config: how to build it again; set by registering and by the constructor
    surgery:      cuts made since it was built (`niwaki.nn.surgery`), replayed on loading
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

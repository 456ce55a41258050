"""What the trainer asks for: batches, phases, and a module that says what each of them minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from niwaki_runtime.errors import CallError

__all__ = ["Batch", "Context", "Phase", "Trainable"]


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

    name:        the argument that `loss` gets
    parameters:  names of the submodules (or parameters) that it trains; no others require gradients
    repeats:     times it is run in one step (a critic's five)
    every:       run only in steps that are multiples of it (lazy regularization)
    fresh_batch: draw a new batch for every run, or reuse the batch of the run before
    stage:       run only in this stage, or in these; None is every stage
    optimizer:   phases with the same name here share one optimizer and its moments; default: the phase's name
    double_backward: its loss holds a gradient (`create_graph=True`); such a phase is not compiled
    validate:    whether its loss on held-out data measures the model. An adversarial loss does not: it
                 measures the critic of the moment
    """

    name: str
    parameters: tuple[str, ...]
    repeats: int = 1
    every: int = 1
    fresh_batch: bool = True
    stage: str | tuple[str, ...] | None = None
    optimizer: str | None = None
    double_backward: bool = False
    validate: bool = True

    def __post_init__(self) -> None:
        if not self.parameters:
            raise CallError(f"the phase '{self.name}' names no parameters to train")
        if self.repeats < 1 or self.every < 1:
            raise CallError(f"the phase '{self.name}' must have repeats and every of at least 1")

    @property
    def optimizer_name(self) -> str:
        return self.optimizer or self.name

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that it belongs to; empty where it belongs to every stage."""
        if self.stage is None:
            return ()
        return (self.stage,) if isinstance(self.stage, str) else tuple(self.stage)

    def in_stage(self, name: str) -> bool:
        """Whether it is run in the stage of that name."""
        return not self.stages or name in self.stages


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

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Σ weight·term, a scalar. Raises CallError where there are no terms."""
        if not terms:
            raise CallError("a loss must return at least one term")
        weighted = [t if (w := self.weights.get(n, 1.0)) == 1.0 else t * w for n, t in terms.items()]
        return reduce(torch.add, weighted)


class Trainable(nn.Module, ABC):
    """All that the trainer asks for; encoders and classifiers are trained by it too."""

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """What one training step optimises, in order."""

    @abstractmethod
    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Named scalar terms of `phase`; the trainer minimises Σ weight·term and records each."""

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        """Called once at the start of every stage, under `no_grad`, before its first step; not again when a
        training is resumed within the stage. For what follows from the data: the scale of latents, a
        codebook's first entries, activation normalization. What it sets belongs into parameters and buffers,
        in place; the averaged weights start again from the parameters that it changed.

        batches: k → the k-th batch that this stage will train on, as `prepare` gets it
        """

    def prepare(self, batch: Batch, ctx: Context) -> Batch:
        """What is trained on instead of `batch`: augmented samples, mixtures with soft labels. Called once
        for every batch drawn, on the training device, under `no_grad`, before it is cut into micro-batches;
        held-out batches are left alone. State that it keeps belongs into buffers."""
        return batch

    def after_step(self, ctx: Context) -> None:
        """Called once at the end of every training step, under `no_grad` (schedules kept in buffers)."""

    def validation_loss(self, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Scalars by which held-out data measure the model, lower is better; early stopping and the choice
        of the best weights go by their sum. By default the loss of each phase of the stage with `validate`;
        {} where nothing measures it. Called in evaluation mode with averaged weights, under `no_grad`."""
        losses = {}
        for phase in self.phases():
            if phase.validate and phase.in_stage(ctx.stage):
                with torch.set_grad_enabled(phase.double_backward):
                    losses[phase.name] = ctx.total(self.loss(phase.name, batch, ctx)).detach()
        return losses

    def trained_modules(self) -> tuple[str, ...]:
        """Names of the submodules that are trained by some phase."""
        return tuple(dict.fromkeys(p for phase in self.phases() for p in phase.parameters))

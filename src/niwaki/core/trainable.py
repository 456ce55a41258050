"""What the trainer asks for: batches, phases, and a module that says what each of them minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from niwaki_runtime.errors import CallError, nearest

__all__ = ["Batch", "Context", "Phase", "Trainable"]


class Batch(Mapping[str, Tensor]):
    """What a training step sees: columns of the data by name, one row per sample.

    columns: name → `(n, *shape)` as a model sees it; `x` are the samples, others what they are known by
             (`class`, a caption, a mask …); None is left out
    index:   positions in the training split `(n,)` int64
    """

    def __init__(self, columns: Mapping[str, Tensor | None], *, index: Tensor | None = None) -> None:
        self._columns = {name: value for name, value in columns.items() if value is not None}
        self.index = index

    @property
    def x(self) -> Tensor:
        """The samples."""
        return self["x"]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._columns:
            raise CallError(f"the batch has no column '{name}'; {nearest(name, self._columns)}")
        return self._columns[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self._columns.get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        """Number of samples (not of columns)."""
        return int(next(iter(self._columns.values())).shape[0])

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """A batch with `change` applied to every tensor."""
        index = None if self.index is None else change(self.index)
        return Batch({name: change(value) for name, value in self._columns.items()}, index=index)

    def replaced(self, **columns: Tensor | None) -> Batch:
        """A batch with some columns changed; None takes one out."""
        return Batch({**self._columns, **columns}, index=self.index)


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
    chosen:     what a rule has chosen from the data; write with `choose`
    taken:      in `begin_stage`: ids of tensors that `init_from` has set; ask with `is_begun`
    trained:    in `begin_stage`: ids of parameters that earlier stages have trained; likewise
    """

    step: int
    progress: float
    stage: str
    weights: Mapping[str, float]
    rng: torch.Generator
    logged: dict[str, Tensor] = field(default_factory=dict)
    shared: dict[str, Tensor] = field(default_factory=dict)
    chosen: dict[str, tuple[float, str]] = field(default_factory=dict)
    taken: frozenset[int] = frozenset()
    trained: frozenset[int] = frozenset()

    def log(self, **values: Tensor) -> None:
        """Record values without minimising them. No host synchronisation happens here."""
        for name, value in values.items():
            self.logged[name] = value.detach()

    def choose(self, name: str, value: float, text: str) -> None:
        """In `begin_stage`: record a value that a rule has chosen for this stage, and say it in a
        sentence."""
        self.chosen[name] = (value, text)

    def is_begun(self, part: nn.Module | Tensor | None, used_by: nn.Module | None = None) -> bool:
        """In `begin_stage`: whether `part` is to stay as it is, since all of it comes from `init_from`, or an
        earlier stage has trained weights of it, or of `used_by`, which have grown used to it."""
        if part is None:
            return False
        tensors = [part] if isinstance(part, Tensor) else [*part.parameters(), *part.buffers()]
        users = tensors if used_by is None else [*tensors, *used_by.parameters()]
        taken = bool(tensors) and all(id(t) in self.taken for t in tensors)
        return taken or any(id(t) in self.trained for t in users)

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Σ weight·term, a scalar. Raises CallError where there are no terms."""
        if not terms:
            raise CallError("a loss must return at least one term")
        weighted = [t if (w := self.weights.get(n, 1.0)) == 1.0 else t * w for n, t in terms.items()]
        return reduce(torch.add, weighted)


class Trainable(nn.Module, ABC):
    """All that the trainer asks for; encoders and classifiers are trained by it too.

    small_matrices: its networks see a sample as one row, so that products have no more rows than the batch
                    has samples: on a CPU, converting them to bf16 costs more than it gains, and
                    `precision: auto` trains in float32
    """

    small_matrices: ClassVar[bool] = False

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
        in place; the averaged weights start again from the parameters that it changed. What weights of an
        earlier stage or of `init_from` have grown used to stays as it is: ask `ctx.is_begun`.

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

    def fitted(self, name: str, stored: Tensor) -> Tensor | None:
        """The parameter `name` made of a stored one of another shape (of a vocabulary that has grown), where
        a training starts from another model's weights; None where nothing can be made of it."""
        return None

    def realness(self, batch: Batch) -> Tensor | None:
        """How real an adversary takes the samples of a batch to be `(n,)`, higher is more real; None for a
        model that has none. Adversarial training is watched by it. Called in evaluation mode, under
        `no_grad`."""
        return None

    def trained_modules(self) -> tuple[str, ...]:
        """Names of the submodules that are trained by some phase."""
        return tuple(dict.fromkeys(p for phase in self.phases() for p in phase.parameters))

"""The steps that a plan can name, model in, model out.

A new one is a config with a `kind` (entered in `niwaki.compression.config`) and a function with `@step` in
the module `step` of its folder, which `FOLDERS` names.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, GenerativeModel

__all__ = ["FOLDERS", "STEPS", "Outcome", "Step", "StepContext", "step", "step_of"]

OnProgress = Callable[[int, int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class StepContext:
    """What a step may need.

    original:    the teacher: the uncompressed model, or what an earlier step made of it that `teaches`
    dataset:     the data, or None
    seed:        of this step
    directory:   of this step
    condition:   what calibration samples are asked for
    on_progress: progress of this step: (done, total, figures)
    recovery:    how to train between rounds of pruning
    previous:    bundle of the step before, for steps that work on bundles; None for the first step
    extractor:   samples → features, for steps that compare samples as a judge sees them; None without one
    exports:     whether graphs are wanted, or the model alone
    """

    original: GenerativeModel
    dataset: Any
    seed: int
    directory: Path
    condition: Any
    on_progress: OnProgress
    recovery: Any = None
    previous: Path | None = None
    extractor: Callable[[np.ndarray], np.ndarray] | None = None
    exports: bool = True

    def training_split(self) -> Any:
        """Raises CallError where the plan was given no data."""
        if self.dataset is None:
            raise CallError(
                "fine-tuning needs data: give compress() a dataset, or leave 'finetune' and 'recover' out"
            )
        return self.dataset.train


@dataclass
class Outcome:
    """What a step made. `graphs` are its exported files where it made them (integers live only there).

    bundle:  where the step makes the bundle itself, and leaves the model as it is
    idle:    it found nothing to do, and `notes` say why
    teaches: later steps imitate this model, for the original answers another question (fewer sampling steps)
    """

    model: GenerativeModel
    graphs: dict[str, Path] = field(default_factory=dict)
    widths: dict[str, tuple[int, int]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    teaches: bool = False
    bundle: Path | None = None
    idle: bool = False


@dataclass(frozen=True)
class Step:
    """carry_out: (model, config, context) → outcome
    training:  config → steps of the training that it consists of, as it tells its progress; 0 where it is
               something else"""

    carry_out: Callable[[GenerativeModel, Any, StepContext], Outcome]
    training: Callable[[Any], int] = lambda config: 0


STEPS: dict[str, Step] = {}

FOLDERS = ("pruning", "distillation", "quantization", "storage")
"""Folders of this package whose module `step` registers steps."""


def step_of(kind: str) -> Step:
    """The step of that kind; the modules that register steps are imported on the first call."""
    for folder in FOLDERS:
        importlib.import_module(f"niwaki.compression.{folder}.step")
    return STEPS[kind]


def step(
    kind: str, training: Callable[[Any], int] = lambda config: 0
) -> Callable[[Callable[..., Outcome]], Callable[..., Outcome]]:
    """Decorator: what carries out the configs of this `kind` (`Step`)."""

    def enter(function: Callable[..., Outcome]) -> Callable[..., Outcome]:
        STEPS[kind] = Step(function, training)
        return function

    return enter

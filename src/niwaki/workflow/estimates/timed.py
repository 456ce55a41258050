"""Seconds of a training step, of a sample, of a step of a plan: of each a few real ones are timed."""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from niwaki.compression import StepConfig
from niwaki.compression.steps import StepContext, step_of
from niwaki.core.contract import GenerativeModel, Trainable
from niwaki.data import Dataset, Split
from niwaki.data.inputs import make_inputs, split_inputs
from niwaki.training import Interrupted, TrainConfig, fit
from niwaki.training.changed import undecided, with_lengths
from niwaki.training.hardware import choose_device
from niwaki_runtime.programs import SAMPLING

__all__ = ["Timed", "Watch", "seconds_of_training"]

_STEPS = 6
"""Steps that are timed at least; the one before them loads, compiles and warms up."""
_SECONDS, _CYCLE_SECONDS = 1.5, 6.0
"""After which no further step is timed; where some phases are rare, so that they are among those timed."""
_BATCH = 16
"""Samples that are made at once."""
_LONG = 0.5
"""Seconds of one sample after which a batch of them is not tried."""


class _Enough(Exception):
    """Ends a training whose first steps are timed."""


class Watch:
    """Progress of a training that is ended as soon as its steps are timed.

    after: steps at its beginning that are of no interest
    cycle: steps in which every phase is due once: a penalty of every sixteenth step costs all of them
    """

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, after: int = 0, cycle: int = 1
    ) -> None:
        self.clock, self.after, self.steps = clock, after, max(_STEPS, cycle)
        self.seconds = _SECONDS if cycle <= _STEPS else _CYCLE_SECONDS
        self.seen: list[tuple[int, float]] = []

    def __call__(self, done: int, total: int, info: Mapping[str, Any]) -> None:
        now = self.clock()
        if done <= self.after or (self.seen and done <= self.seen[-1][0]):
            return
        self.seen.append((done, now))
        first, began = self.seen[0]
        if done > first and (done - first >= self.steps or now - began > self.seconds):
            raise _Enough

    @property
    def each(self) -> float | None:
        """Seconds of one step; None where there were none to time."""
        if len(self.seen) < 2:
            return None
        (first, began), (last, ended) = self.seen[0], self.seen[-1]
        return (ended - began) / (last - first)


def seconds_of_training(make: Callable[[], Trainable], split: Split, config: TrainConfig) -> float | None:
    """Seconds that all stages of a training take, of each of which a few steps are carried out on a model of
    its own; None where several devices share it or the networks are compiled first.

    make: the model as it is before the training
    """
    if config.devices > 1 or any(config.of_stage(stage).compile for stage in config.all_stages):
        return None
    whole = 0.0
    for at, stage in enumerate(config.all_stages):
        if stage.steps <= _STEPS:
            continue  # they are over before they are timed
        with torch.random.fork_rng():
            model = make()
        watch = Watch(after=at, cycle=math.lcm(*(p.every for p in model.phases() if p.in_stage(stage.name))))
        with _undisturbed():
            fit(model, split, _as_far_as(config, at), seed=0, progress=watch)
        if watch.each is None:
            return None
        whole += stage.steps * watch.each
    return whole


def _as_far_as(config: TrainConfig, at: int) -> TrainConfig:
    """The same, with a single step in each stage before stage `at`, and nothing that validation decides."""
    cut = with_lengths(undecided(config), lambda k, steps: 1 if k < at else steps)
    return cut.model_copy(update={"log_every": 1, "checkpoint_every": 0})


class Timed:
    """A model and its data, of which steps and samples are timed when they are first asked for.

    make:    a model of its own for each: the trained one, or as it is before the training
    dataset: its splits give batches and conditions
    device:  where samples are made
    """

    def __init__(self, make: Callable[[], Any], dataset: Dataset, device: str = "cpu") -> None:
        self.make, self.dataset, self.device = make, dataset, device

    def training(self, config: TrainConfig) -> float | None:
        """Seconds of the whole training."""
        return seconds_of_training(self.make, self.dataset.train, config)

    def step(self, config: StepConfig) -> float | None:
        """Seconds of a step of a plan that is a training, on a model that is as wide as before the plan; 0
        where the step is something else, None where it cannot be told."""
        step = step_of(config.kind)
        steps = step.training(config)
        if steps <= _STEPS:
            return 0.0
        model, watch = self.make().cpu(), Watch()
        with tempfile.TemporaryDirectory(prefix="niwaki-") as directory, _undisturbed():
            condition = split_inputs(model, self.dataset.train)
            context = StepContext(model, self.dataset, 0, Path(directory), condition, watch)
            step.carry_out(copy.deepcopy(model), config, context)
        return None if watch.each is None else steps * watch.each

    def calls(self, n: int) -> float:
        """Seconds of making n samples in one call; of more than are tried, in proportion."""
        one, many = self._sampling
        return one if n == 1 else many * n / _BATCH

    def samples(self, n: int) -> float:
        """Seconds of making n samples in large batches."""
        return self._sampling[1] * n / _BATCH

    @cached_property
    def _sampling(self) -> tuple[float, float]:
        """Seconds of one sample, and of a batch."""
        model = self.make()
        if not isinstance(model, GenerativeModel):
            return 0.0, 0.0
        model.to(choose_device(self.device))
        one = self._call(model, 1)
        return one, _BATCH * one if one > _LONG else self._call(model, _BATCH)

    def _call(self, model: GenerativeModel, n: int) -> float:
        inputs = make_inputs(model, SAMPLING, n, self.dataset.test)
        took = 0.0
        for _ in range(2):  # the first one warms up
            began = time.perf_counter()
            model.run(SAMPLING, n, seed=0, inputs=inputs, batch=n)
            took = time.perf_counter() - began
            if took > _LONG:
                break
        return took


@contextmanager
def _undisturbed() -> Iterator[None]:
    """What is timed in the block ends where its time is known, and leaves torch's random numbers as they
    were."""
    with torch.random.fork_rng():
        try:
            yield
        except _Enough:
            pass
        except Interrupted:
            raise KeyboardInterrupt from None  # nothing has begun yet

"""Norms of the gradients, weights and updates of parameters, taken in some steps, left on the device."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from niwaki.training.stages import ActivePhase, Stage

__all__ = ["Gauge", "Norms", "steps_between"]

FEWEST, SHORTEST, PARTS = 10, 100, 100
"""Steps between measurements at least; steps of a stage that is measured unasked, and in how many parts."""


@dataclass(frozen=True)
class Norms:
    """What one phase did in one step.

    step:  that was done, counted from 0
    names: of the n parameters that it trains; counts: values in each
    values: `(3, n)`: norms of the gradients before they were clipped, of the weights before the step, and
           of what the step changed of them
    """

    step: int
    phase: str
    names: tuple[str, ...]
    counts: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]


class Gauge:
    """Of one stage. Which steps it measures follows from their number alone, so that a resumed training
    measures the same ones; nothing waits for the device before `read`."""

    def __init__(self, stage: Stage) -> None:
        self.start, self.every = stage.start, steps_between(stage)
        self._measured: list[tuple[int, ActivePhase, Tensor]] = []

    def around(self, active: ActivePhase, step: int) -> AbstractContextManager[None]:
        """Within it the optimizer follows the gradients that are there when it is entered."""
        if not self.every or step % self.every or step == self.start:
            return nullcontext()
        return self._measure(active, step)

    @contextmanager
    def _measure(self, active: ActivePhase, step: int) -> Iterator[None]:
        parameters = [p.detach() for p in active.parameters.values()]
        nothing = torch.zeros((), device=parameters[0].device)
        of = {n: p.grad for n, p in active.parameters.items() if p.grad is not None}
        norms = dict(zip(of, torch._foreach_norm(list(of.values())), strict=True)) if of else {}
        gradients = torch.stack([norms.get(n, nothing).float() for n in active.parameters])
        weights = _norms(parameters)
        before = [p.clone() for p in parameters]  # activations are gone by now: this raises no peak
        yield
        torch._foreach_sub_(before, parameters)
        self._measured.append((step, active, torch.stack([gradients, weights, _norms(before)])))

    def read(self) -> list[Norms]:
        """What was measured since the last call, oldest first, in one transfer."""
        measured, self._measured = self._measured, []
        if not measured:
            return []
        sizes = [values.shape[1] for _, _, values in measured]
        parts = torch.cat([values for _, _, values in measured], 1).double().cpu().split(sizes, 1)
        return [
            Norms(
                step,
                active.phase.name,
                tuple(active.parameters),
                tuple(p.numel() for p in active.parameters.values()),
                tuple(map(tuple, part.tolist())),
            )
            for (step, active, _), part in zip(measured, parts, strict=True)
        ]


def steps_between(stage: Stage) -> int:
    """Steps between measurements, a multiple of what lies between two steps in which every phase is due: a
    layer may get its gradients in a rare phase alone. 0 measures nothing."""
    watch = stage.settings.watch
    if watch is None or (not watch.gradients and stage.config.steps < SHORTEST):
        return 0
    together = math.lcm(*(active.phase.every for active in stage.phases))
    return math.ceil((watch.gradients or max(FEWEST, stage.config.steps // PARTS)) / together) * together


def _norms(tensors: list[Tensor]) -> Tensor:
    return torch.stack([n.float() for n in torch._foreach_norm(tensors)])

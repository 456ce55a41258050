"""Averaged weights: what is sampled, evaluated, pruned and exported.

Parameters are averaged, buffers are not: at the moment the average is looked at, they are the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Ema"]


class Ema:
    """e ← e + (1 − d)(p − e), for all parameters in one kernel.

    Only the parameters of the current stage are moved. For the others p stays as it is, so e stays too:
    parameters that a later stage brings in start from their value at that stage's beginning, and those of
    earlier stages keep their average.
    """

    def __init__(self, model: nn.Module) -> None:
        self.parameters = dict(model.named_parameters())
        self.values = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._averages: list[Tensor] = []
        self._sources: list[Tensor] = []
        self._made: Callable[[], Mapping[str, Tensor]] = dict

    def track(self, model: nn.Module) -> None:
        """Keep the averages of the parameters that the model has now; those of new ones begin here."""
        self.parameters = dict(model.named_parameters())
        self.values = {n: self.values.get(n, p.detach().clone()) for n, p in self.parameters.items()}
        self.follow(())

    def follow(self, names: Iterable[str], made: Callable[[], Mapping[str, Tensor]] = dict) -> None:
        """Average these parameters from now on.

        made: averages that optimizers make themselves (`schedule_free`), which are taken as they are
        """
        self._made = made
        names = list(names)
        self._averages = [self.values[n] for n in names]
        self._sources = [self.parameters[n].detach() for n in names]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        if self._averages:
            torch._foreach_lerp_(self._averages, self._sources, 1.0 - decay)
        if made := self._made():
            torch._foreach_copy_([self.values[n] for n in made], list(made.values()))

    @torch.no_grad()
    def assign(self, names: Iterable[str] | None = None) -> None:
        """Give the model the averaged values, for good."""
        for name in self.values if names is None else names:
            self.parameters[name].copy_(self.values[name])

    @torch.no_grad()
    def restart(self, names: Iterable[str]) -> None:
        """Begin the average of these parameters at their present values."""
        for name in names:
            self.values[name].copy_(self.parameters[name])

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Averages from a checkpoint."""
        for name, value in values.items():
            self.values[name].copy_(value)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside the block the model has the averaged values. They are exchanged by content, so optimizers
        hold."""
        kept = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.assign()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in kept.items():
                    self.parameters[name].copy_(value)

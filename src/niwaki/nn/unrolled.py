"""Several tokens in one call of a network: each is drawn inside, and read before the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from niwaki.core.contract import Graph, Port

__all__ = ["Onward", "Reading", "drawn", "pick", "unrolled_graph"]

Step = Callable[..., tuple[Tensor, ...]]


class Reading(Protocol):
    """A network that reads one token after another."""

    def read(self, token: Tensor) -> Tensor:
        """A token `(n,)` → logits `(n, V)` of the next one."""

    def news(self) -> tuple[Tensor, ...]:
        """Its state after all that it has read: whole, or the rows that are new."""


class Onward:
    """The reading of any network, by `step`: token `(n,)`, position `(1,)`, *state → logits, *news.

    News of its state's shape replace it; shorter ones are rows, which the next step finds written at their
    positions.
    """

    def __init__(self, step: Step, position: Tensor, state: Sequence[Tensor]) -> None:
        self._step, self._start, self._before = step, position, list(state)
        self._rows: list[list[Tensor]] = [[] for _ in state]
        self._count = 0

    def read(self, token: Tensor) -> Tensor:
        logits, *news = self._step(token, self._start + self._count, *self._state())
        for i, made in enumerate(news):
            if made.shape == self._before[i].shape:
                self._before[i] = made
            else:
                self._rows[i].append(made)
        self._count += 1
        return logits

    def news(self) -> tuple[Tensor, ...]:
        pairs = zip(self._before, self._rows, strict=True)
        return tuple(torch.cat(rows, _shorter(rows[0], held)) if rows else held for held, rows in pairs)

    def _state(self) -> list[Tensor]:
        """What was there before, with the rows of the steps so far."""
        return [
            self._written(held, rows) if rows else held
            for held, rows in zip(self._before, self._rows, strict=True)
        ]

    def _written(self, held: Tensor, rows: list[Tensor]) -> Tensor:
        axis = _shorter(rows[0], held)
        place = torch.arange(held.shape[axis], device=held.device) - self._start
        new = torch.cat(rows, axis).index_select(axis, place.clamp(0, len(rows) - 1))
        here = (place >= 0) & (place < len(rows))
        return torch.where(here.view(-1, *(1,) * (held.dim() - axis - 1)), new, held)


def _shorter(rows: Tensor, held: Tensor) -> int:
    """The axis along which rows follow each other."""
    return next(i for i, (a, b) in enumerate(zip(rows.shape, held.shape, strict=True)) if a != b)


def pick(logits: Tensor, chance: Tensor, temperature: Tensor) -> Tensor:
    """One token `(n,)` for each row of logits `(n, V)`: the inverse of the sums of softmax(logits /
    temperature) at `chance` `(n, 1)`, as `niwaki_runtime.samplers.tokens.choose`; float64."""
    z = logits.double() / temperature
    e = torch.exp(z - z.amax(1, keepdim=True))
    cdf = torch.cumsum(e, 1)
    # The first that is not passed; chance < 1, so that there always is one.
    return (cdf < chance * cdf[:, -1:]).float().argmin(1)


def drawn(reading: Reading, token: Tensor, chances: Tensor, temperature: Tensor) -> tuple[Tensor, ...]:
    """The tokens `(n, k)` that follow `token` `(n,)`, by uniform numbers `(n, k)`; then the state's news."""
    made = []
    for chance in chances.split(1, 1):
        token = pick(reading.read(token), chance, temperature)
        made.append(token)
    return (torch.stack(made, 1), *reading.news())


def unrolled_graph(one: Graph, module: torch.nn.Module, unroll: int, length: int) -> Graph:
    """The graph that draws `unroll` tokens of `length`, of the graph `one` that reads one. Its inputs: token,
    position, uniform numbers, temperature, then what `one` has beside them."""
    token, position, *asked = one.inputs
    position = replace(position, high=length - unroll + 1)
    chances = Port("chances", (1, unroll), "float64", usual=0.5)
    temperature = Port("temperature", (1,), "float64", batch_axis=None, usual=1.0)
    ports = (token, position, chances, temperature, *asked)
    return Graph("unrolled", module, ports, ("tokens",), one.state)

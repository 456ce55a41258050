"""One teacher or several: what they say together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import CallError, GenerativeModel, Graph

__all__ = ["Teachers", "answers"]

_ALIKE = 0.5
"""Correlation of two teachers' answers from which on their mean is an answer and not a blur."""


class Teachers:
    """Frozen models with the same graphs; the first is the one that is asked about samplers and roles.

    Several are averaged: denoisers' outputs (an ensemble's estimate of the same mean) or logits. Generators
    of separate trainings map the same latents to unrelated samples, whose mean is nothing at all: teachers
    whose answers do not correlate are refused.
    """

    def __init__(self, models: Sequence[GenerativeModel]) -> None:
        if not models:
            raise CallError("distillation needs a teacher")
        self.models = [m.eval().requires_grad_(False) for m in models]
        self.first = self.models[0]
        for other in self.models[1:]:
            if other.spec != self.first.spec or set(other.shipped_graphs()) != set(
                self.first.shipped_graphs()
            ):
                raise CallError(
                    f"the teachers '{self.first.name}' and '{other.name}' make different samples or have "
                    "different graphs; they must be of one kind"
                )
        if len(self.models) > 1:
            self._agree()

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move or convert all of them, as `nn.Module._apply` does."""
        for model in self.models:
            model._apply(fn)

    @torch.no_grad()
    def __call__(self, name: str, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The float outputs of the graph `name`, averaged over the teachers."""
        return _mean([answers(m.graphs()[name], inputs) for m in self.models])

    @torch.no_grad()
    def mean(self, ask: Callable[[GenerativeModel], Tensor]) -> Tensor:
        """The mean of what `ask` gets from each."""
        return _mean([[ask(m)] for m in self.models])[0]

    def _agree(self) -> None:
        for name, graph in self.first.shipped_graphs().items():
            inputs = graph.example(64, 1)
            both = [torch.cat([a.flatten() for a in answers(m.graphs()[name], inputs)]) for m in self.models]
            for other in both[1:]:
                alike = float(torch.corrcoef(torch.stack([both[0], other]))[0, 1])
                if not alike > _ALIKE:
                    raise CallError(
                        f"the teachers answer unlike each other (the outputs of '{name}' correlate by "
                        f"{alike:.2f}), so that their mean would be a blur; use one of them"
                    )


def answers(graph: Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The float outputs of a graph, as float32; its state is no answer."""
    out: Any = graph(*inputs)
    parts = out if isinstance(out, tuple | list) else (out,)
    return [p.float() for p in parts[: len(graph.outputs)] if p.is_floating_point()]


def _mean(given: list[list[Tensor]]) -> list[Tensor]:
    if len(given) == 1:
        return given[0]
    return [torch.stack(parts).mean(0) for parts in zip(*given, strict=True)]

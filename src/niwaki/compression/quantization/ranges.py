"""What every layer is given while the model samples: the ranges that 8 bits are spread over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from niwaki.core.contract import GenerativeModel, Graph

__all__ = ["Seen", "calls", "observe"]

_PER_CALL = 1 << 12  # values kept of one call
_KEPT = 1 << 17  # values kept of one layer
_BATCH = 64

Items = Mapping[str, Sequence[Mapping[str, np.ndarray]]]


@dataclass
class Seen:
    """The first inputs of one layer: extremes of all values, and some of them."""

    least: float = float("inf")
    most: float = float("-inf")
    parts: list[Tensor] = field(default_factory=list)

    def add(self, x: Tensor, rng: torch.Generator) -> None:
        flat = x.detach().flatten().float()
        self.least, self.most = min(self.least, float(flat.min())), max(self.most, float(flat.max()))
        if len(flat) > _PER_CALL:
            flat = flat[torch.randint(len(flat), (_PER_CALL,), generator=rng)]
        self.parts.append(flat.clone())

    def values(self) -> Tensor:
        """Some of the values, and both extremes, (n,)."""
        every = torch.cat(self.parts)
        every = every[:: max(1, len(every) // _KEPT)]
        return torch.cat([every, torch.tensor([self.least, self.most])])


def calls(
    graph: Graph, items: Sequence[Mapping[str, np.ndarray]], batch: int = _BATCH
) -> Iterator[tuple[Tensor, ...]]:
    """Inputs of `graph` in batches of the items, each of which is a batch of one; items of a batch agree in
    what has no batch axis (a position)."""
    axes = [p.batch_axis for p in graph.inputs] + [s.batch_axis for s in graph.state]
    groups: dict[tuple[bytes, ...], list[Mapping[str, np.ndarray]]] = defaultdict(list)
    for item in items:
        fixed = zip(graph.input_names, axes, strict=True)
        groups[tuple(item[n].tobytes() for n, axis in fixed if axis is None)].append(item)
    for group in groups.values():
        for at in range(0, len(group), batch):
            part = group[at : at + batch]
            yield tuple(
                torch.from_numpy(part[0][n] if axis is None else np.concatenate([i[n] for i in part], axis))
                for n, axis in zip(graph.input_names, axes, strict=True)
            )


@torch.no_grad()
def observe(model: GenerativeModel, items: Items, wanted: Callable[[nn.Module], bool]) -> dict[str, Seen]:
    """What the layers that `wanted` picks are given on the calibration `items`, by name.

    A layer that no graph calls is not in the answer.
    """
    rng = torch.Generator().manual_seed(0)
    found: dict[str, Seen] = {}

    def hook(name: str) -> Callable[..., None]:
        def see(module: nn.Module, inputs: Any, named: Any) -> None:
            x = inputs[0] if inputs else named["input"]
            found.setdefault(name, Seen()).add(x, rng)

        return see

    layers = [(n, m) for n, m in model.named_modules() if wanted(m)]
    handles = [m.register_forward_pre_hook(hook(n), with_kwargs=True) for n, m in layers]
    try:
        for name, graph in model.shipped_graphs().items():
            for inputs in calls(graph, items.get(name, ())):
                graph(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found

"""What a change does to the outputs of a model's graphs on inputs of its own sampling: a word about damage
that costs one call of the network, where sampling and judging cost hundreds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from niwaki.compression.comparable_inputs import comparable_inputs, same_state
from niwaki.compression.quantization.ranges import Items, calls
from niwaki.core.contract import GenerativeModel

__all__ = ["OutputError"]

Outputs = dict[str, list[Tensor]]


class OutputError:
    """Of changed copies of one model, E‖Δy‖²/E‖y − Ey‖² over the outputs y of all graphs, the mean over
    graphs.

    items: calibration inputs of each graph; samples: of them that are used
    """

    def __init__(self, model: GenerativeModel, items: Items, samples: int = 64) -> None:
        self._model, self._items, self._samples = model, items, samples
        self._made = self._outputs(model, items)

    def of(self, changed: GenerativeModel) -> float:
        """0 for the model itself; NaN where no graph has inputs, or all make the same of them."""
        before, items = self._made, self._items
        if not all(same_state(changed, self._model, name) for name in self._model.shipped_graphs()):
            whole, items = comparable_inputs(changed, self._model, self._items)
            before = self._outputs(self._model, whole)
        found = []
        for name, made in self._outputs(changed, items).items():
            off = sum(float((a - b).square().sum()) for a, b in zip(made, before[name], strict=True))
            spread = sum(float((y - y.mean(0)).square().sum()) for y in before[name])
            if spread > 0:
                found.append(off / spread)
        return sum(found) / len(found) if found else math.nan

    @torch.no_grad()
    def _outputs(self, model: GenerativeModel, items: Items) -> Outputs:
        out: Outputs = {}
        for name, graph in model.shipped_graphs().items():
            batches = []
            for given in calls(graph, items.get(name, ())[: self._samples], self._samples):
                made = graph(*given)
                parts = list(made) if isinstance(made, tuple | list) else [made]
                batches.append([y.double() for y in parts[: len(graph.outputs)] if y.is_floating_point()])
            joined = [torch.cat(parts) for parts in zip(*batches, strict=True)]
            if joined:
                out[name] = joined
        return out

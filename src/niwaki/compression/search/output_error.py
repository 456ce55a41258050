"""What a change does to the outputs of a model's graphs on inputs of its own sampling: a word about damage
that costs one call of the network, where sampling and judging cost hundreds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from niwaki.compression.quantization.adaptive import as_batches
from niwaki.compression.quantization.ranges import Items
from niwaki.core.contract import GenerativeModel

__all__ = ["OutputError"]


class OutputError:
    """Of changed copies of one model, E‖Δy‖²/E‖y − Ey‖² over the outputs y of all graphs, the mean over
    graphs.

    items: calibration inputs of each graph; samples: of them that are used
    """

    @torch.no_grad()
    def __init__(self, model: GenerativeModel, items: Items, samples: int = 64) -> None:
        self._inputs = as_batches(model, items, samples)
        self._made = self._outputs(model)

    @torch.no_grad()
    def of(self, changed: GenerativeModel) -> float:
        """0 for the model itself; NaN where no graph's inputs make one batch, or what is made is none."""
        found = []
        for name, made in self._outputs(changed).items():
            before = self._made[name]
            off = sum(float((a - b).square().sum()) for a, b in zip(made, before, strict=True))
            spread = sum(float((y - y.mean(0)).square().sum()) for y in before)
            found.append(off / max(spread, 1e-30))
        return sum(found) / len(found) if found else math.nan

    def _outputs(self, model: GenerativeModel) -> dict[str, list[Tensor]]:
        graphs, out = model.shipped_graphs(), {}
        for name, given in self._inputs.items():
            made = graphs[name](*given)
            parts = list(made) if isinstance(made, tuple | list) else [made]
            floats = [y.double() for y in parts[: len(graphs[name].outputs)] if y.is_floating_point()]
            if floats:
                out[name] = floats
        return out

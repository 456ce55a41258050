"""Bringing what happens inside a student to what happens inside its teacher, layer by layer.

Where a layer's channels are those of the teacher's, or a recorded selection of them, values are compared
(Romero et al. 2015, "FitNets", without their regressor); where they are others, how similar it finds the
samples of a batch to each other (Tung & Mori 2019, "Similarity-preserving knowledge distillation", eq. 2–4).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import GenerativeModel, Graph

__all__ = ["FeatureTaps", "feature_distance"]


class FeatureTaps:
    """Chosen layers of a graph that a student and its teacher both have, and their outputs in a forward pass.

    count: layers compared, spread evenly over the order in which they run; the last one, whose output is the
           graph's, is left to the distance of outputs
    """

    def __init__(self, student: GenerativeModel, teacher: GenerativeModel, name: str, count: int) -> None:
        ran = _order(teacher.shipped_graphs()[name])
        inside = {n for n, _ in student.shipped_graphs()[name].module.named_modules()}
        shared = [n for n in ran if n in inside][:-1]
        count = min(count, len(shared))
        self.layers = [shared[((2 * i + 1) * len(shared)) // (2 * count)] for i in range(count)]
        # Names within the graph's module → positions that the student kept of the teacher's channels.
        self._kept = _kept(student, student.shipped_graphs()[name].module, self.layers)

    @contextmanager
    def recording(self, graph: Graph) -> Iterator[dict[str, Tensor]]:
        """Outputs by layer of the forward passes inside the block."""
        seen: dict[str, Tensor] = {}
        modules = dict(graph.module.named_modules())

        def hook(layer: str) -> object:
            return modules[layer].register_forward_hook(lambda m, i, out: seen.__setitem__(layer, out))

        handles = [hook(layer) for layer in self.layers]
        try:
            yield seen
        finally:
            for handle in handles:
                handle.remove()  # type: ignore[attr-defined]

    def distance(self, made: dict[str, Tensor], wanted: dict[str, Tensor]) -> Tensor:
        """Mean over the layers of `feature_distance`."""
        found = [
            feature_distance(made[n].float(), wanted[n].float(), self._kept.get(n))
            for n in self.layers
            if n in made and n in wanted
        ]
        return torch.stack(found).mean()


def feature_distance(made: Tensor, wanted: Tensor, kept: Tensor | None = None) -> Tensor:
    """‖s − t‖² / Var t where the student's channels are the teacher's (at the positions `kept`, if given);
    else ‖G̃ₛ − G̃ₜ‖² / n², G̃ the row-normalised Gram matrix of the batch's flattened features.
    """
    if kept is not None and made.shape[1] == len(kept) and made.shape[2:] == wanted.shape[2:]:
        wanted = wanted.index_select(1, kept.to(wanted.device))
    if made.shape == wanted.shape:
        return F.mse_loss(made, wanted) / wanted.var().clamp_min(1e-8)
    a, b = (F.normalize(f.flatten(1) @ f.flatten(1).T, dim=1) for f in (made, wanted))
    return F.mse_loss(a, b)


@torch.no_grad()
def _order(graph: Graph) -> list[str]:
    """Layers with weights whose output is one float tensor of channels, in the order in which they run."""
    ran: list[str] = []
    names = {m: n for n, m in graph.module.named_modules()}
    handles = []
    for module in graph.module.modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            handles.append(module.register_forward_hook(lambda m, i, o: ran.append(names[m])))
    try:
        graph(*graph.example(2))
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(ran))


def _kept(student: GenerativeModel, root: nn.Module, layers: list[str]) -> dict[str, Tensor]:
    """layer → positions of the teacher's channels that its cuts left, where it was cut."""
    names = {id(m): n for n, m in student.named_modules()}
    modules = dict(root.named_modules())
    found: dict[str, Tensor] = {}
    for layer in layers:
        own, kept = names.get(id(modules[layer])), None
        for edit in student.surgery:
            if edit.kind == "cut" and edit.module == own and edit.side == "out":
                keep = torch.tensor(edit.keep)
                kept = keep if kept is None else kept[keep]  # later cuts count what earlier ones left
        if kept is not None:
            found[layer] = kept
    return found

"""Memory that is live at each point of a pass: values that were computed and are still needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from niwaki.compression.arithmetic import sampling_graphs
from niwaki.core.contract import GenerativeModel

__all__ = ["LiveMemory", "live_memory"]


@dataclass(frozen=True)
class LiveMemory:
    """Bytes of one sample in float32, weights and the network's inputs left out.

    points: by layer in order of their first call, the most that is live while it computes and until the next
            one begins; under an empty name what comes before the first
    """

    points: Mapping[str, int]

    @property
    def peak(self) -> int:
        return max(self.points.values(), default=0)

    @property
    def where(self) -> str:
        """The layer at which the most is live."""
        return max(self.points, key=lambda name: self.points[name], default="")


@torch.no_grad()
def live_memory(model: GenerativeModel) -> LiveMemory:
    """Of one pass of the graphs that the sampler calls: an array is live from the operator that makes it to
    the last one that reads it, or to the end where it is put out."""
    points: dict[str, int] = {}
    layers = {m: name for name, m in model.named_modules() if not any(True for _ in m.children())}
    flow = _Flow()
    handles = [m.register_forward_pre_hook(lambda m, _: flow.enter(layers[m])) for m in layers]
    was_training = model.training
    model.eval()
    try:
        for graph in sampling_graphs(model).values():
            example, flow = graph.example(1), _Flow()
            with flow:
                made = graph(*example)
            for layer, live in flow.points(made).items():
                points[layer] = max(points.get(layer, 0), live)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return LiveMemory(points)


class _Flow(TorchDispatchMode):
    """Which operators make and read which storages: views share theirs, and hold nothing of their own."""

    def __init__(self) -> None:
        super().__init__()
        self._layers: list[str] = []
        self._layer = ""
        self._lives: list[tuple[int, int, int]] = []
        self._last: dict[int, int] = {}

    def enter(self, layer: str) -> None:
        self._layer = layer

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = set(_storages((args, kwargs)))
        made = func(*args, **kwargs)
        now = len(self._layers)
        self._layers.append(self._layer)
        for key in given & self._last.keys():
            self._read(key, now)
        for key, size in _storages(made).items():
            if key not in given:  # a place in memory that was free again may hold another array
                self._last[key] = len(self._lives)
                self._lives.append((size, now, now))
        return made

    def _read(self, key: int, now: int) -> None:
        size, since, _ = self._lives[self._last[key]]
        self._lives[self._last[key]] = (size, since, now)

    def points(self, out: Any) -> dict[str, int]:
        """By layer, the most that is live while it computes and until the next begins. out: the results"""
        for key in _storages(out).keys() & self._last.keys():
            self._read(key, len(self._layers) - 1)
        change = [0] * (len(self._layers) + 1)
        for size, since, until in self._lives:
            change[since] += size
            change[until + 1] -= size
        found: dict[str, int] = {}
        live = 0
        for layer, more in zip(self._layers, change[:-1], strict=True):
            live += more
            found[layer] = max(found.get(layer, 0), live)
        return found


def _storages(values: Any) -> dict[int, int]:
    """Bytes by storage."""
    tensors = (x for x in tree_leaves(values) if isinstance(x, Tensor))
    return {s._cdata: s.nbytes() for s in (x.untyped_storage() for x in tensors)}

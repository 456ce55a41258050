"""How long a network that looks at samples may be trained, and about how long that takes here."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.core.contract import Context, DataSpec, Trainable
from niwaki.data import Dataset, Feeder

__all__ = ["Announce", "affordable_steps", "expected_seconds", "multiplications"]

Announce = Callable[[str, int, float], None]
"""Called with (what is trained, its steps, about how many seconds) before a training begins."""

BUDGET = 3e12
"""Multiplications of a whole training, forward and backward: one to two minutes on two cores. It decides
the steps instead of a clock, so that a seed gives the same features on every machine."""
FEWEST = 150
"""Steps below which an encoder has seen too little, whatever they cost."""
_BACKWARD = 3
"""A step costs so many times its forward pass."""
_TRIED = 3


def affordable_steps(network: nn.Module, spec: DataSpec, batch: int, *, views: int = 1) -> int:
    """Steps of `batch` samples, each looked at in so many views, that the budget allows."""
    each = multiplications(network, spec) * views * _BACKWARD * batch
    return max(FEWEST, int(BUDGET / max(each, 1)))


@torch.no_grad()
def multiplications(network: nn.Module, spec: DataSpec) -> int:
    """Of one sample's way through the convolutions and dense layers of `network`."""
    found = [0]

    def count(layer: nn.Module, given: Any, out: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        found[0] += out[0].numel() * weight[0].numel()

    layers = [part for part in network.modules() if isinstance(part, nn.Linear | nn.modules.conv._ConvNd)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    kind = torch.int64 if spec.is_tokens else torch.float32
    was = network.training
    try:
        network.eval()(torch.zeros((1, *spec.shape), dtype=kind))
    finally:
        network.train(was)
        for hook in hooks:
            hook.remove()
    return found[0]


def expected_seconds(network: Trainable, dataset: Dataset, train: Mapping[str, Any]) -> float:
    """About how long a training with these settings takes on this machine's CPU: a few steps are tried on a
    copy. Nothing of the process's random state is changed."""
    network = copy.deepcopy(network).cpu().train()
    size = min(int(train["batch"]), len(dataset.train))
    feeder, phase = Feeder(dataset.train, size, seed=0), network.phases()[0]
    rng = torch.Generator().manual_seed(0)
    best = float("inf")
    with torch.random.fork_rng(devices=[]):
        for k in range(_TRIED):  # the first one allocates
            began = time.perf_counter()
            terms = network.loss(phase.name, feeder.batch(k), Context(0, 0.0, "main", {}, rng))
            torch.stack(list(terms.values())).sum().backward()
            best = min(best, time.perf_counter() - began)
    return best * int(train["steps"])

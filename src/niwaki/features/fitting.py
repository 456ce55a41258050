"""A network that looks at samples: trained on the training split, or taken from the cache."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from niwaki.core.contract import CallError, NiwakiError, Trainable
from niwaki.core.store import keep_tensors, read_tensors
from niwaki.data import Dataset
from niwaki.features.budget import Announce, expected_seconds
from niwaki.features.extractor import Progress, pick_device

__all__ = ["fitted"]

_USUAL = {
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "warmup": 50,
    "ema": 0.99,
    "precision": "fp32",
    "checkpoint_every": 0,
}
"""How networks that look at samples are trained."""


def fitted(
    network: Trainable,
    name: str,
    dataset: Dataset,
    *,
    path: Path | None,
    train: Mapping[str, Any],
    seed: int,
    device: str,
    progress: Progress | None,
    announce: Announce | None = None,
) -> None:
    """Give `network` the weights kept at `path`, or train it now and keep them there (None keeps nothing).

    train:    settings of `niwaki.training.TrainConfig` beside those of every network that looks at samples
    announce: told how long it will take, where it is trained now and on the CPU
    """
    if path is not None and _load(network, path):
        return
    if announce is not None and pick_device(device).type == "cpu":
        announce(name, int(train["steps"]), expected_seconds(network, dataset, train))
    _fit(network, name, dataset, train, seed, device, progress)
    if path is not None:
        keep_tensors(path, network.state_dict())


def _fit(
    network: Trainable,
    name: str,
    dataset: Dataset,
    train: Mapping[str, Any],
    seed: int,
    device: str,
    progress: Progress | None,
) -> None:
    from niwaki.training import TrainConfig, fit  # here: cached weights need no trainer

    config = TrainConfig.model_validate({**_USUAL, "device": str(pick_device(device)), **train})
    if config.devices > 1:
        raise CallError(f"an extractor is trained on one device, not on {config.devices}; leave devices out")
    fitting = {
        "batch": min(config.batch, len(dataset.train)),
        "warmup": min(config.warmup, config.steps // 4),
    }
    report = None if progress is None else lambda done, total, _: progress(name, done, total)
    fit(network, dataset.train, config.model_copy(update=fitting), seed=seed, progress=report)


def _load(network: nn.Module, path: Path) -> bool:
    if not os.path.exists(path):
        return False
    try:
        network.load_state_dict(read_tensors(path))
        return True
    except (NiwakiError, RuntimeError):  # a damaged cache is made again
        return False

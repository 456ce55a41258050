"""A network that looks at samples: trained on the training split, or taken from the cache."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from niwaki.core.contract import NiwakiError, Trainable
from niwaki.core.store import read_tensors, write_tensors
from niwaki.data import Dataset
from niwaki.features.extractor import Progress, pick_device

__all__ = ["fitted"]


def fitted(
    network: Trainable,
    name: str,
    dataset: Dataset,
    *,
    path: Path | None,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    device: str,
    progress: Progress | None,
) -> None:
    """Give `network` the weights kept at `path`, or train it now and keep them there (None keeps nothing)."""
    if path is not None and _load(network, path):
        return
    _fit(network, name, dataset, steps, batch, lr, seed, device, progress)
    if path is not None:
        write_tensors(path, network.state_dict())


def _fit(
    network: Trainable,
    name: str,
    dataset: Dataset,
    steps: int,
    batch: int,
    lr: float,
    seed: int,
    device: str,
    progress: Progress | None,
) -> None:
    from niwaki.training import TrainConfig, fit  # here: cached weights need no trainer

    settings = {
        "steps": steps,
        "batch": min(batch, len(dataset.train)),
        "lr": lr,
        "warmup": min(50, steps // 4),
        "optimizer": "adamw",
        "weight_decay": 0.05,
        "ema": 0.99,
        "precision": "fp32",
        "device": str(pick_device(device)),
        "checkpoint_every": 0,
    }
    report = None if progress is None else lambda done, total, _: progress(name, done, total)
    fit(network, dataset.train, TrainConfig.model_validate(settings), seed=seed, progress=report)


def _load(network: nn.Module, path: Path) -> bool:
    if not path.exists():
        return False
    try:
        network.load_state_dict(read_tensors(path))
        return True
    except (NiwakiError, RuntimeError):
        path.unlink(missing_ok=True)  # a damaged cache is made again
        return False

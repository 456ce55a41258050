"""A small classifier, trained on the training split alone: its last hidden layer as features, its answers as
a judge.

How well it knows held-out samples is part of it (`accuracy`): the features of a poor classifier say little.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, Context, DataSpec, Phase, Trainable
from niwaki.core.store import hash_json
from niwaki.data import Dataset
from niwaki.features.budget import Announce
from niwaki.features.extractor import Array, NetworkExtractor, Progress
from niwaki.features.fitting import fitted
from niwaki.features.units import Units, has_units, units_of
from niwaki.nn.augment.draws import shifted
from niwaki.nn.layers.grids import grid_of
from niwaki.nn.layers.shrinking import shrink_to_vector

__all__ = ["Classifier", "ClassifierNetwork", "train_classifier"]

_WIDTH = 64
_TOKEN = 32
"""Length of a token's vector."""
_BATCH = 128
_LR = 3e-3
_VERSION = 1
"""Raised when the architecture or its training changes: part of the hash that the cache goes by."""


class ClassifierNetwork(Trainable):
    """Convolutions down to two cells along each side of the grid (images, series, clips, tokens) or dense
    layers (vectors), a hidden layer, one output per class.

    shift: largest random displacement of training samples along each side, in places
    """

    def __init__(self, spec: DataSpec, width: int = _WIDTH) -> None:
        super().__init__()
        if spec.classes < 2:
            raise CallError(
                "a classifier needs data with at least two classes; use the features 'random' instead"
            )
        grid = grid_of(spec, "the classifier")
        front, channels = grid.front(_TOKEN)
        self.shift = max(1, max(grid.sides) // 16) if grid.sides else 0
        self.units = units_of(spec)
        self.front = nn.Sequential(*front)
        self.body = shrink_to_vector(grid.sides, channels, width)
        self.head = nn.Linear(width, spec.classes)

    def features(self, x: Tensor) -> Tensor:
        """(n, *shape) → (n, width), not negative."""
        return self.body(self.front(self.units(x)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) → logits (n, classes)."""
        return self.head(self.features(x))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("classify", ("front", "body", "head")),)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        if isinstance(self.units, Units):
            self.units.fit_batches(batches)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        x = self.front(self.units(batch.x))
        for axis in range(2, x.dim()):
            x = shifted(x, axis, self.shift, ctx.rng)
        logits = self.head(self.body(x))
        return {"cross_entropy": F.cross_entropy(logits, batch["class"], label_smoothing=0.05)}


class Classifier(NetworkExtractor):
    """The trained network as an extractor; `accuracy` by split name, 0 … 1."""

    def __init__(
        self,
        spec: DataSpec,
        network: ClassifierNetwork,
        *,
        settings: dict[str, Any],
        cache: Path | None,
        device: str,
        accuracy: dict[str, float],
    ) -> None:
        super().__init__(
            "classifier",
            spec,
            network,
            dim=network.head.in_features,
            settings=settings,
            cache=cache,
            device=device,
        )
        self.classes = spec.classes
        self.accuracy = accuracy

    def tensor_features(self, x: Tensor) -> Tensor:
        assert isinstance(self.network, ClassifierNetwork)
        return self.network.features(x)

    def probabilities(self, x: Array, batch: int = 256) -> np.ndarray:
        """(n, *shape) → (n, classes) float32; rows add up to 1."""
        return self._run(lambda part: self.network(part).softmax(1), x, batch)

    def probabilities_of(self, features: np.ndarray) -> np.ndarray:
        """The same from features that are already there: (n, dim) → (n, classes)."""
        assert isinstance(self.network, ClassifierNetwork)
        with torch.inference_mode():
            given = torch.from_numpy(np.array(features, dtype=np.float32)).to(self.device)
            return self.network.head(given).softmax(1).cpu().numpy()


def train_classifier(
    dataset: Dataset,
    *,
    cache: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    announce: Announce | None = None,
) -> Classifier:
    """The extractor `classifier` for a data set: from the cache, or trained now.

    Raises CallError for data without classes.
    """
    steps = _steps(len(dataset.train))
    settings = {"version": _VERSION, "seed": seed, "steps": steps, "batch": _BATCH, "width": _WIDTH}
    settings |= {"units": True} if has_units(dataset.spec) else {}
    key = hash_json([settings, dataset.fingerprint, dataset.spec.to_json()])[:24]
    path = cache / "features" / f"classifier-{key}.safetensors" if cache else None
    network = _fresh(dataset.spec, seed)
    fitted(
        network, "classifier", dataset, path=path,
        train={"steps": steps, "batch": _BATCH, "lr": _LR}, seed=seed, device=device, progress=progress,
        announce=announce,
    )  # fmt: skip
    made = Classifier(dataset.spec, network, settings=settings, cache=cache, device=device, accuracy={})
    for name in ("train", "validation", "test"):
        split = dataset.split(name)
        if split.y is not None and len(split):
            answer = made.probabilities_of(made.of_split(dataset, name)).argmax(1)
            made.accuracy[name] = float((answer == split.y.cpu().numpy()).mean())
    return made


def _fresh(spec: DataSpec, seed: int) -> ClassifierNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ClassifierNetwork(spec)


def _steps(samples: int) -> int:
    """Forty passes over a small set, at most 1000 steps over a large one."""
    return int(min(1000, max(500, 40 * samples // _BATCH)))

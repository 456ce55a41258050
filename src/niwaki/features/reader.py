"""A reader: one small network that reads every column of labels back from a sample.

It learns from the training split and from half of every extra split. Where labels that never come together in
training are a split of their own, a reader that knew the training split alone could tell one label by
another ("red, so upright") without looking. How well it reads real samples that it has not seen is part of it
(`accuracy`): what a model makes can be read no better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from niwaki.core.contract import Batch, CallError, Context, DataSpec, Phase, Trainable
from niwaki.core.store import hash_json, kept_json
from niwaki.data import Dataset, Split
from niwaki.features.budget import Announce
from niwaki.features.extractor import Array, NetworkExtractor, Progress
from niwaki.features.fitting import fitted
from niwaki.features.units import Units, has_units, units_of
from niwaki.nn.layers.grids import grid_of
from niwaki.nn.layers.shrinking import shrink_to_vector
from niwaki_runtime.specs import SAMPLE

__all__ = ["ALL", "Reader", "ReaderNetwork", "label_columns", "train_reader"]

ALL = "everything"
"""What the share of samples is called that are read rightly in all columns."""
_WIDTH = 64
_TOKEN = 32
"""Length of a token's vector."""
_BATCH = 128
_LR = 3e-3
_PASSES = 9
"""Over the training split, within the bounds of `_steps`."""
_VERSION = 1
"""Raised when the architecture or its training changes: part of the hash that the cache goes by."""


def label_columns(spec: DataSpec) -> tuple[str, ...]:
    """Names of the columns that say one of several things of a sample: its class, its colour …"""
    return tuple(
        name
        for name, column in spec.columns.items()
        if column.modality == "label" and name not in spec.unpaired and column.levels > 1
    )


class ReaderNetwork(Trainable):
    """Convolutions down to two cells along each side of the grid (dense layers for vectors), a hidden layer,
    and one output per value of every column of labels.

    Samples are not shifted in training, as a classifier's are: a label may say where a thing is.
    Raises CallError for data without a column of labels.
    """

    def __init__(self, spec: DataSpec, width: int = _WIDTH) -> None:
        super().__init__()
        self.names = label_columns(spec)
        if not self.names:
            raise CallError("a reader needs data with a column of labels")
        grid = grid_of(spec, "the reader")
        front, channels = grid.front(_TOKEN)
        self.counts = [spec[name].levels for name in self.names]
        self.units = units_of(spec)
        self.front = nn.Sequential(*front)
        self.body = shrink_to_vector(grid.sides, channels, width)
        self.head = nn.Linear(width, sum(self.counts))

    def forward(self, x: Tensor) -> Tensor:
        """(n, *shape) → logits of all columns one after the other (n, values of all)."""
        return self.head(self.body(self.front(self.units(x))))

    def phases(self) -> tuple[Phase, ...]:
        return (Phase("read", ("front", "body", "head")),)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        if isinstance(self.units, Units):
            self.units.fit_batches(batches)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        logits = self(batch.x).split(self.counts, 1)
        each = [F.cross_entropy(of, batch[name]) for of, name in zip(logits, self.names, strict=True)]
        return {"cross_entropy": torch.stack(each).sum()}


class Reader:
    """Samples → what every column of labels says of them.

    names:    of the columns
    accuracy: by split and column, the share of real samples that are read rightly, 0 … 1; under `ALL`, in
              all columns at once. Of an extra split, of the half that was not learned from
    """

    def __init__(
        self, network: NetworkExtractor, names: tuple[str, ...], accuracy: Mapping[str, Mapping[str, float]]
    ) -> None:
        self._network, self.names, self.accuracy = network, names, accuracy

    @property
    def fingerprint(self) -> str:
        return self._network.fingerprint

    def __call__(self, x: Array) -> dict[str, np.ndarray]:
        """`(n, *shape)` float32 in the data's range → by column, numbers of labels `(n,)` int64.

        Raises CallError for another shape and for NaN.
        """
        return _read(self._network, x)


def train_reader(
    dataset: Dataset,
    *,
    cache: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
    announce: Announce | None = None,
) -> Reader:
    """The reader of a data set: from the cache, or trained now.

    Raises CallError for data without a column of labels.
    """
    steps = _steps(len(dataset.train))
    settings = {"version": _VERSION, "seed": seed, "steps": steps, "batch": _BATCH, "width": _WIDTH}
    settings |= {"units": True} if has_units(dataset.spec) else {}
    key = hash_json([settings, dataset.fingerprint, dataset.spec.to_json()])[:24]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ReaderNetwork(dataset.spec)
    path = cache / "features" / f"reader-{key}.safetensors" if cache else None
    fitted(
        network, "reader", _lesson(dataset), path=path, train={"steps": steps, "batch": _BATCH, "lr": _LR},
        seed=seed, device=device, progress=progress, announce=announce,
    )  # fmt: skip
    looking = NetworkExtractor(
        "reader",
        dataset.spec,
        network,
        dim=sum(network.counts),
        settings=settings,
        cache=cache,
        device=device,
    )
    known = kept_json(
        cache / "features" / f"reader-{key}-{looking.fingerprint[:12]}.json" if cache else None,
        lambda: _accuracy(looking, dataset),
        lambda found: isinstance(found, dict) and set(found) == set(dataset.splits),
    )
    return Reader(looking, network.names, known)


def _read(looking: NetworkExtractor, x: Array) -> dict[str, np.ndarray]:
    network = looking.network
    assert isinstance(network, ReaderNetwork)
    parts = np.split(looking(x), np.cumsum(network.counts)[:-1], axis=1)
    return {name: part.argmax(1) for name, part in zip(network.names, parts, strict=True)}


def _lesson(dataset: Dataset) -> Dataset:
    """The data with samples and labels alone, the training split lengthened by the second half of every extra
    split."""
    names = {SAMPLE, *label_columns(dataset.spec)}
    halves = [split.select(torch.arange(len(split) // 2, len(split))) for split in dataset.extra.values()]
    parts = [dataset.train, *halves]
    columns = {
        name: replace(
            dataset.train.columns[name], data=torch.cat([part.columns[name].data for part in parts])
        )
        for name in names
    }
    return replace(dataset, train=Split(columns), spec=Split(columns).spec)


def _accuracy(looking: NetworkExtractor, dataset: Dataset) -> dict[str, dict[str, float]]:
    found = {}
    for name, split in dataset.splits.items():
        unseen = len(split) // 2 if name in dataset.extra else len(split)
        hits = {
            column: answer == split.columns[column].data[:unseen].cpu().numpy()
            for column, answer in _read(looking, split.values()[:unseen]).items()
        }
        hits[ALL] = np.logical_and.reduce(list(hits.values()))
        found[name] = {column: float(hit.mean()) for column, hit in hits.items()}
    return found


def _steps(samples: int) -> int:
    return int(min(1800, max(600, _PASSES * samples // _BATCH)))

"""A classifier of the channels of stacked images: what each channel shows, and so which mode an image is of.

Data say that their channels are pictures of their own by naming them and holding a column of labels under
each of these names (`stacked-digits`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from niwaki.core.contract import CallError, DataSpec, ValueSpec
from niwaki.core.store import hash_json
from niwaki.data import Dataset, Split
from niwaki.features.classifier import Classifier, train_classifier
from niwaki.features.extractor import Array

__all__ = ["ChannelClassifier", "channel_labels", "train_channel_classifier"]


class ChannelClassifier:
    """Images → the number of their mode, whose figures are the classes of their channels.

    classifier: of one channel
    kinds:      modes in all: classes ** channels
    """

    def __init__(self, classifier: Classifier, channels: int) -> None:
        self.classifier, self.channels = classifier, channels
        self.kinds = classifier.classes**channels

    @property
    def name(self) -> str:
        return f"channels@{self.classifier.fingerprint[:8]}"

    def __call__(self, x: Array) -> np.ndarray:
        """`(n, channels, H, W)` in the data's range → modes `(n,)` int64, the first channel's class weighing
        most."""
        x = np.asarray(x, dtype=np.float32)
        each = self.classifier.probabilities(x.reshape(-1, 1, *x.shape[2:])).argmax(1)
        classes = each.reshape(len(x), self.channels)
        return np.ravel_multi_index(tuple(classes.T), (self.classifier.classes,) * self.channels)


def channel_labels(spec: DataSpec) -> tuple[str, ...]:
    """Names of the columns that hold the class of each channel, in the channels' order; () where the data
    have none."""
    names = spec.x.names
    of = [spec[name] for name in names if name in spec and name not in spec.unpaired]
    labelled = len(of) == len(names) > 1 and all(column.modality == "label" for column in of)
    whole = spec.x.axes == "CHW" and len(names) == spec.x.shape[0]
    return names if labelled and whole and len({column.levels for column in of}) == 1 else ()


def train_channel_classifier(
    dataset: Dataset, *, cache: Path | None = None, seed: int = 0, device: str = "auto"
) -> ChannelClassifier:
    """The classifier of all channels alike: from the cache, or trained now on the channels of the training
    split, each picture once.

    Raises CallError for data whose channels have no labels.
    """
    names = channel_labels(dataset.spec)
    if not names:
        raise CallError(
            f"the channels of '{dataset.name}' have no column of labels under each of their names"
        )
    train = _channels(dataset.train, names)
    single = Dataset(
        f"channels of {dataset.name}",
        train.spec,
        train=train,
        validation=_channels(dataset.validation, names),
        test=_channels(dataset.test, names),
        fingerprint=hash_json(["channels", dataset.fingerprint]),
    )
    return ChannelClassifier(train_classifier(single, cache=cache, seed=seed, device=device), len(names))


def _channels(split: Split, names: tuple[str, ...]) -> Split:
    """Every channel as an image of its own with its class; pictures that several stacks share once."""
    spec, label = split.spec.x, split.spec[names[0]]
    x = split.x.transpose(0, 1).flatten(0, 1)[:, None]  # (channels · n, 1, H, W)
    y = torch.cat([split.column(name).data for name in names])
    both = torch.cat([x.flatten(1).double(), y[:, None].double()], 1)
    both = torch.unique(both, dim=0)
    single = DataSpec({"x": ValueSpec("image", (1, *spec.shape[1:]), None, spec.values), "class": label})
    return Split.of(single, both[:, :-1].to(x.dtype).view(-1, 1, *spec.shape[1:]), both[:, -1].long())

"""Which value of each attribute does a sample show? The class by a classifier, others by their neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from niwaki.core.contract import CallError, nearest
from niwaki.data import Dataset

__all__ = ["CROSS", "Recogniser", "crossed"]

K = 5
"""Training neighbours that say which attribute a sample has."""
CROSS = "+"
"""Joins the names of attributes that are looked at together."""


@dataclass(frozen=True)
class Recogniser:
    """Attributes of samples, in the extractors of an evaluation; real and generated ones are read alike, so
    that its errors are the same on both.

    names of attributes: `class` where a classifier is among the extractors, and those of the training split
    """

    dataset: Dataset
    extractors: Sequence[Any]

    @property
    def attributes(self) -> tuple[str, ...]:
        return (*(("class",) if self._judge is not None else ()), *self.dataset.train.attributes)

    @property
    def _judge(self) -> Any:
        from niwaki.evaluation.metrics.accuracy import find_classifier

        place = find_classifier(self.extractors)
        return None if place is None else self.extractors[place]

    def names(self, attribute: str) -> tuple[str, ...]:
        """What its values are called."""
        if attribute == "class":
            return tuple(self.dataset.spec.class_names) or tuple(map(str, range(self.dataset.spec.classes)))
        known = self.dataset.attribute_names.get(attribute)
        return tuple(known or map(str, range(int(self.dataset.train.attributes[attribute].max()) + 1)))

    def means(self, attribute: str) -> str:
        """How it is recognised."""
        return str(self._judge.name) if attribute == "class" else f"{K} nearest training samples"

    def of_split(self, split: str) -> dict[str, np.ndarray]:
        """Of the real samples of a split: integers `(n,)` by attribute."""
        from niwaki.evaluation.statistics.samples import split_features

        return self._read(lambda extractor: split_features(extractor, self.dataset, split))

    def of_samples(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        """Of samples `(n, *shape)`."""
        return self._read(lambda extractor: extractor(samples))

    def accuracy(self, attribute: str, split: str) -> float | None:
        """Share of a split that is recognised rightly."""
        if attribute == "class":
            return self._judge.accuracy.get(split)
        right = self.dataset.split(split).attributes[attribute].cpu().numpy()
        return float((self.of_split(split)[attribute] == right).mean())

    def value_names(self, by: str) -> tuple[str, ...]:
        """Of an attribute, or of several joined by `+`. Raises CallError for one that is not recognised."""
        parts = by.split(CROSS)
        for part in parts:
            if part not in self.attributes:
                if not self.attributes:
                    raise CallError("these data have neither classes nor attributes that could be recognised")
                known = nearest(part, self.attributes)
                raise CallError(f"'{part}' is no attribute that is recognised in these data; {known}")
        names = [self.names(part) for part in parts]
        joined = [""] if not names else list(names[0])
        for more in names[1:]:
            joined = [f"{a}, {b}" for a in joined for b in more]
        return tuple(joined)

    def joint(self, found: Mapping[str, np.ndarray], by: str) -> np.ndarray:
        """The values of `value_names(by)` in what `of_samples` has found `(n,)`."""
        parts = by.split(CROSS)
        joined = found[parts[0]].astype(np.int64)
        for part in parts[1:]:
            joined = joined * len(self.names(part)) + found[part]
        return joined

    def _read(self, features: Any) -> dict[str, np.ndarray]:
        from niwaki.evaluation.statistics.samples import split_features

        found: dict[str, np.ndarray] = {}
        if self._judge is not None:
            found["class"] = self._judge.probabilities_of(features(self._judge)).argmax(1)
        first = self.extractors[0]
        if self.dataset.train.attributes:
            train, of = split_features(first, self.dataset, "train"), features(first)
            for attribute, known in self.dataset.train.attributes.items():
                found[attribute] = _vote(of, train, known)
        return found


def crossed(attributes: Sequence[str]) -> list[str]:
    """Every pair of attributes: `class+font`."""
    return [f"{a}{CROSS}{b}" for i, a in enumerate(attributes) for b in attributes[i + 1 :]]


def _vote(of: np.ndarray, train: np.ndarray, known: torch.Tensor) -> np.ndarray:
    """The commonest value among the nearest training samples, the smallest of equally common ones."""
    from niwaki.evaluation.pairwise.sweep import Pairs
    from niwaki.evaluation.statistics.arrays import pair

    near = Pairs(*pair(of, train)).nearest(K).index.cpu().numpy()
    values = known.cpu().numpy()[near]
    votes = np.zeros((len(of), int(known.max()) + 1), np.int64)
    np.add.at(votes, (np.arange(len(of))[:, None], values), 1)
    return votes.argmax(1)

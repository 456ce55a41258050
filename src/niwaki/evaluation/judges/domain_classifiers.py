"""Classifiers of two domains, trained on the real training samples of both."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import DataSpec, ValueSpec
from niwaki.core.store import hash_json
from niwaki.data import Dataset, Split
from niwaki.data.columns import Column
from niwaki.evaluation.judges.base import Tools
from niwaki.evaluation.judges.views import class_column, domains
from niwaki.features import Classifier
from niwaki.features.classifier import train_classifier

__all__ = ["DomainClassifiers", "labels_of"]


class DomainClassifiers:
    """The two classifiers of a data set, each trained when it is first asked for; `Tools.cache` keeps them
    beyond this process."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self._trained: dict[tuple[str, str], Classifier] = {}

    def style(self, dataset: Dataset) -> Classifier:
        """Which domain a sample is of, by its place in `domains`."""
        names = domains(dataset)
        return self._made("style", dataset, ValueSpec.label(len(names), names))

    def content(self, dataset: Dataset) -> Classifier | None:
        """Which class a sample is of, whatever its domain; None where a domain has no classes, or others."""
        names = [class_column(name) for name in domains(dataset)]
        if not all(name in dataset.spec for name in names):
            return None
        spec = dataset.spec[names[0]]
        if spec.levels < 2 or any(dataset.spec[name].levels != spec.levels for name in names):
            return None
        return self._made("content", dataset, spec)

    def _made(self, kind: str, dataset: Dataset, label: ValueSpec) -> Classifier:
        key = (kind, dataset.fingerprint or str(id(dataset)))
        if key not in self._trained:
            self._trained[key] = train_classifier(
                _both(kind, dataset, label),
                cache=self.tools.cache,
                progress=lambda _, done, total: self.tools.on_progress(done, total),
            )
        return self._trained[key]


def labels_of(split: Split, column: str, n: int) -> np.ndarray:
    """Classes of the first n samples of a domain `(n,)`."""
    return split.column(class_column(column)).data[:n].cpu().numpy().astype(np.int64)


def _both(kind: str, dataset: Dataset, label: ValueSpec) -> Dataset:
    """All domains after one another as one data set, its classes the domain or the content."""
    spec = DataSpec({"x": dataset.spec.x, "class": label})

    def joined(split: Split) -> Split:
        x, y = [], []
        for place, name in enumerate(domains(dataset)):
            values = split.column(name).values()
            x.append(values)
            y.append(_classes(kind, split, name, place, values))
        return Split(
            {"x": Column(spec.x, torch.cat(x)), "class": Column(label, torch.cat(y))},
        )

    return Dataset(
        f"{dataset.name}:{kind}",
        spec,
        joined(dataset.train),
        joined(dataset.validation),
        joined(dataset.test),
        fingerprint=hash_json([dataset.fingerprint, "domains", kind]),
    )


def _classes(kind: str, split: Split, name: str, place: int, values: Tensor) -> Tensor:
    if kind == "style":
        return torch.full((len(values),), place, dtype=torch.int64, device=values.device)
    return split.column(class_column(name)).data.long()

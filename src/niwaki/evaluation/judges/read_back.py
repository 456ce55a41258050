"""Whether samples show what was asked for, one column of labels after the other: by a reader that is trained
on the data, with how well it reads real samples beside it.

A caption, a picture or a mask of a row tells all that the row's labels say; a label tells itself alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from niwaki.core.contract import Program
from niwaki.data import Dataset
from niwaki.evaluation.judges.base import Figure, Tools
from niwaki.evaluation.statistics.result import wilson
from niwaki.features.reader import ALL, Reader, label_columns, train_reader
from niwaki_runtime.specs import SAMPLE

__all__ = ["EXTRA", "read_back", "told_columns"]

EXTRA = 500
"""Rows of each extra split that samples are asked for, at most."""
_CLASS = "class"


def told_columns(program: Program, dataset: Dataset) -> tuple[str, ...]:
    """Columns of labels that the inputs of a program tell. () where they tell the class at most: that is what
    a classifier is for."""
    labels = label_columns(dataset.spec)
    given = [name for name in program.inputs if name in dataset.spec and name not in dataset.spec.unpaired]
    if SAMPLE not in given and any(not program.inputs[name].is_label for name in given):
        told = labels
    else:
        told = tuple(name for name in labels if name in given)
    return told if set(told) - {_CLASS} else ()


def read_back(
    samples: dict[str, np.ndarray], told: Sequence[str], dataset: Dataset, tools: Tools
) -> tuple[list[Figure], dict[str, Any]]:
    """The share of samples that show what was asked, by column and of all columns at once; and the record of
    it.

    samples: by split, those that its first rows were asked for, from the beginning again where it ends
    told:    columns that were asked for
    """
    reader = train_reader(dataset, cache=tools.cache, announce=tools.announce)
    figures: list[Figure] = []
    details: dict[str, Any] = {"reader": reader.fingerprint, "accuracy": reader.accuracy}
    for place, (split, made) in enumerate(samples.items()):
        hits = _hits(reader, made, told, dataset, split)
        shares = {name: hit.mean() for name, hit in hits.items()}
        details[split] = {"n": len(made), **{name: float(share) for name, share in shares.items()}}
        where = "" if place == 0 else f" ({split.replace('_', ' ')})"
        for name, hit in hits.items():
            figure = Figure(
                f"{name.replace('_', ' ')} read back as asked{where}", float(hit.mean()),
                wilson(hit.sum(), len(hit)), "fidelity", "higher",
                reader.accuracy[split].get(name), "real samples",
            )  # fmt: skip
            figures.append(figure)
    return figures, details


def _hits(
    reader: Reader, made: np.ndarray, told: Sequence[str], dataset: Dataset, split: str
) -> dict[str, np.ndarray]:
    """By column, and for `all` of them, which samples show what was asked `(n,)` bool."""
    columns = dataset.split(split).columns
    found = reader(made)
    rows = np.arange(len(made)) % len(dataset.split(split))
    hits = {name: found[name] == columns[name].data.cpu().numpy()[rows] for name in told}
    return {**hits, ALL: np.logical_and.reduce(list(hits.values()))}

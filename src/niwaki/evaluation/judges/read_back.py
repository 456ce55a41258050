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
from niwaki.evaluation.statistics.result import Result, signature, wilson
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
) -> tuple[list[Figure], dict[str, dict[str, Any]]]:
    """The share of samples that show what was asked, by column and of all columns at once; and the same as
    metrics by who read them (`reader`, of an extra split `reader, unseen pairs`).

    samples: by split, those that its first rows were asked for, from the beginning again where it ends
    told:    columns that were asked for
    """
    reader = train_reader(dataset, cache=tools.cache, announce=tools.announce)
    figures: list[Figure] = []
    metrics: dict[str, dict[str, Any]] = {}
    for place, (split, made) in enumerate(samples.items()):
        of = split.replace("_", " ") if place else ""
        found = metrics[f"reader, {of}" if of else "reader"] = {}
        for name, hit in _hits(reader, made, told, dataset, split).items():
            text = signature("read_back", column=name, reader=reader.fingerprint[:8], split=split, n=len(hit))
            result = Result(
                float(hit.mean()), wilson(hit.sum(), len(hit)), reader.accuracy[split][name],
                hit, (len(dataset.split(split)), len(hit)), None, text,
            )  # fmt: skip
            found[f"{name}_read_back"] = result.to_json()
            title = f"{name.replace('_', ' ')} read back as asked" + (f" ({of})" if of else "")
            figure = Figure(
                title, result.value, result.interval, "fidelity", "higher", result.floor, "real samples"
            )
            figures.append(figure)
    return figures, metrics


def _hits(
    reader: Reader, made: np.ndarray, told: Sequence[str], dataset: Dataset, split: str
) -> dict[str, np.ndarray]:
    """By column, and for `all` of them, which samples show what was asked `(n,)` bool."""
    columns = dataset.split(split).columns
    found = reader(made)
    rows = np.arange(len(made)) % len(dataset.split(split))
    hits = {name: found[name] == columns[name].data.cpu().numpy()[rows] for name in told}
    return {**hits, ALL: np.logical_and.reduce(list(hits.values()))}

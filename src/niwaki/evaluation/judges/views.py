"""Which column of the data a program's results answer to, and a data set seen from that column."""

from __future__ import annotations

from dataclasses import replace

from niwaki.core.contract import DataSpec, Program
from niwaki.core.store import hash_json
from niwaki.data import Dataset, Split
from niwaki_runtime.specs import SAMPLE

__all__ = ["answered_column", "class_column", "dataset_of", "domains"]

_CLASS = "class"


def domains(dataset: Dataset) -> tuple[str, ...]:
    """`x` and the columns of further domains: `x_b` …, each with classes of its own in `class_b` …"""
    return tuple(name for name in dataset.spec if name == SAMPLE or name.startswith(f"{SAMPLE}_"))


def class_column(column: str) -> str:
    """`class` of `x`, `class_b` of `x_b`."""
    return _CLASS + column.removeprefix(SAMPLE)


def answered_column(program: Program, dataset: Dataset) -> str | None:
    """The domain that a program's results lie in: of its output's shape and kind, and not what it is given
    (a translator is given `x` and answers with `x_b`). `x` where that fits; None where none does."""
    for name in domains(dataset):
        spec = dataset.spec[name]
        same = spec.shape == program.output.shape and spec.is_tokens == program.output.is_tokens
        if same and name not in program.inputs:
            return name
    return None


def dataset_of(dataset: Dataset, column: str) -> Dataset:
    """The data set whose sample is `column`: what a second domain is judged by."""
    if column == SAMPLE:
        return dataset
    names = {SAMPLE: column}
    if class_column(column) in dataset.spec:
        names[_CLASS] = class_column(column)

    def seen(split: Split) -> Split:
        return Split({new: replace(split.column(old), paired=True) for new, old in names.items()})

    return Dataset(
        f"{dataset.name}:{column}",
        DataSpec({new: dataset.spec[old] for new, old in names.items()}),
        seen(dataset.train),
        seen(dataset.validation),
        seen(dataset.test),
        fingerprint=hash_json([dataset.fingerprint, column]),
    )

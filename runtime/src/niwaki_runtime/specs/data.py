"""What the columns of a data set are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.field_types import as_table
from niwaki_runtime.specs.value import ValueSpec
from niwaki_runtime.specs.values import Levels, Real, Tokens, Values

__all__ = ["SAMPLE", "DataSpec"]

SAMPLE = "x"
"""Name of the column that holds the samples themselves."""

_STORED_AS_LEVELS = ("image", "video")
_FIRST_EDITION = ("modality", "shape", "low", "high", "levels", "classes", "class_names")


@dataclass(frozen=True)
class DataSpec:
    """What the columns of a data set are, by name; `x` is the sample, others are what it can be asked by.

    columns:  name → what one value of it is
    unpaired: columns whose row i has nothing to do with sample i (a second domain)
    The sample's own figures (`shape`, `values`, `low` …) are those of `x`; `classes` and `class_names` those
    of the column `class`.
    Raises CallError without samples, and for an unpaired column that is none or the samples themselves.
    """

    columns: Mapping[str, ValueSpec]
    unpaired: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if SAMPLE not in self.columns:
            raise CallError(f"data need a column '{SAMPLE}' of samples, and have {', '.join(self.columns)}")
        for name in self.unpaired:
            if name == SAMPLE or name not in self.columns:
                raise CallError(f"'{name}' cannot be unpaired; name one of the columns beside '{SAMPLE}'")

    @classmethod
    def of(
        cls,
        modality: str,
        shape: tuple[int, ...],
        low: float = -1.0,
        high: float = 1.0,
        levels: int | None = None,
        classes: int = 0,
        class_names: tuple[str, ...] = (),
    ) -> DataSpec:
        """Samples and, where there are classes, a column `class`.

        levels: number of stored levels (default 256 for images and videos, amounts for all else); of text,
                the number of tokens
        """
        if not shape:
            raise CallError(f"a sample's shape must be positive in every dimension, not {shape}")
        if class_names and len(class_names) != classes:
            raise CallError(f"{len(class_names)} class names were given for {classes} classes")
        if modality in _STORED_AS_LEVELS and levels is None:
            levels = 256
        values: Values = Real(low, high) if levels is None else Levels(levels, low, high)
        if modality == "text":
            values = Tokens(levels or 256, "tokenizer.json")
        columns = {SAMPLE: ValueSpec(modality, shape, None, values)}
        if classes:
            columns["class"] = ValueSpec.label(classes, tuple(class_names))
        return cls(columns)

    def __getitem__(self, name: str) -> ValueSpec:
        if name not in self.columns:
            raise CallError(f"the data have no column '{name}'; {nearest(name, self.columns)}")
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __hash__(self) -> int:
        return hash((tuple(sorted(self.columns.items(), key=lambda item: item[0])), self.unpaired))

    @property
    def x(self) -> ValueSpec:
        return self.columns[SAMPLE]

    @property
    def modality(self) -> str:
        return self.x.modality

    @property
    def shape(self) -> tuple[int, ...]:
        return self.x.shape

    @property
    def axes(self) -> str:
        return self.x.axes or ""

    @property
    def values(self) -> Values:
        return self.x.values

    @property
    def is_tokens(self) -> bool:
        return self.x.is_tokens

    @property
    def size(self) -> int:
        return self.x.size

    @property
    def low(self) -> float:
        return self.x.low

    @property
    def high(self) -> float:
        return self.x.high

    @property
    def levels(self) -> int:
        return self.x.levels

    @property
    def classes(self) -> int:
        """Number of classes, 0 where there are no labels."""
        return 0 if self._label is None else self._label.values.n

    @property
    def class_names(self) -> tuple[str, ...]:
        return () if self._label is None else self._label.names

    @property
    def _label(self) -> ValueSpec | None:
        """The column `class`, where it holds one name for each sample."""
        spec = self.columns.get("class")
        return spec if spec is not None and spec.is_tokens and spec.shape == () else None

    def to_uint8(self, x: np.ndarray) -> np.ndarray:
        return self.x.to_uint8(x)

    def without(self, *names: str) -> DataSpec:
        """The same without some columns."""
        rest = {k: v for k, v in self.columns.items() if k not in names}
        return DataSpec(rest, tuple(k for k in self.unpaired if k in rest))

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = {"columns": {k: v.to_json() for k, v in self.columns.items()}}
        return record | ({"unpaired": list(self.unpaired)} if self.unpaired else {})

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> DataSpec:
        record = as_table(record, "a data spec must be a table of columns")
        if "columns" in record:
            if not isinstance(record["columns"], Mapping) or "x" not in record["columns"]:
                raise CallError("a data spec must be a table of columns, with the samples as 'x'")
            columns = {k: ValueSpec.from_json(v) for k, v in record["columns"].items()}
            return cls(columns, tuple(record.get("unpaired", ())))
        known: dict[str, Any] = {k: record[k] for k in _FIRST_EDITION if k in record}
        known = {k: tuple(v) if isinstance(v, list) else v for k, v in known.items()}
        if "modality" not in known:
            raise CallError("a data spec must be a table of columns, with the samples as 'x'")
        if known["modality"] not in (*_STORED_AS_LEVELS, "text"):
            known.pop("levels", None)  # stood there and meant nothing
        return cls.of(**known)

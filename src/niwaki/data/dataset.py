"""A data set in memory: three splits of named columns, kept as small integers where they are levels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from niwaki.core.contract import Batch, CallError, DataSpec, nearest
from niwaki.data.audit import Audit
from niwaki.data.columns import Column

__all__ = ["Dataset", "Split"]


@dataclass
class Split:
    """One split, all on one device.

    columns:    by name; `x` are the samples, others what they are known by (`class`, a caption, a mask …);
                unpaired ones have a length of their own
    attributes: further integer facts about every sample that no model is asked for, `(n,)` int64 each (the
                font of a glyph)
    """

    columns: dict[str, Column]
    attributes: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        spec: DataSpec,
        x: Tensor,
        y: Tensor | None = None,
        attributes: Mapping[str, Tensor] | None = None,
        **others: Tensor,
    ) -> Split:
        """Samples `x`, their classes `y` and other columns by name, as `spec` describes them."""
        given = {"x": x, **({} if y is None else {"class": y}), **others}
        columns = {name: Column(spec[name], data, name not in spec.unpaired) for name, data in given.items()}
        return cls(columns, dict(attributes or {}))

    @property
    def spec(self) -> DataSpec:
        """What the columns are."""
        unpaired = tuple(name for name, column in self.columns.items() if not column.paired)
        return DataSpec({name: column.spec for name, column in self.columns.items()}, unpaired)

    @property
    def x(self) -> Tensor:
        """The samples as they are stored `(n, *shape)`."""
        return self.columns["x"].data

    @property
    def y(self) -> Tensor | None:
        """The classes `(n,)` int64, or None."""
        return self.columns["class"].data if "class" in self.columns else None

    def __len__(self) -> int:
        return len(self.columns["x"])

    def column(self, name: str) -> Column:
        """Raises CallError with the nearest name where there is no such column."""
        if name not in self.columns:
            raise CallError(f"the data have no column '{name}'; {nearest(name, self.columns)}")
        return self.columns[name]

    def values(self, index: Tensor | None = None) -> Tensor:
        """Samples as a model sees them: float32 in [low, high] (tokens: int64); those at `index`, or all."""
        return self.columns["x"].values(index)

    def batch(self, index: Tensor, unpaired: Mapping[str, Tensor] | None = None) -> Batch:
        """The rows at `index` `(n,)` int64, gathered where the split lives; no host synchronisation.

        unpaired: positions in columns that are not paired; default: `index`, wrapped round their length
        """
        index = index.to(self.x.device, non_blocking=True)
        columns = {}
        for name, column in self.columns.items():
            at = index
            if not column.paired:
                given = (unpaired or {}).get(name)
                at = index % len(column) if given is None else given.to(self.x.device, non_blocking=True)
            columns[name] = column.values(at)
        return Batch(columns, index=index)

    def select(self, index: Tensor) -> Split:
        """The part at `index` (positions or a mask); unpaired columns stay whole."""
        return Split(
            {name: c.take(index) if c.paired else c for name, c in self.columns.items()},
            {name: value[index] for name, value in self.attributes.items()},
        )

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        return replace(
            self,
            columns={name: column.to(device) for name, column in self.columns.items()},
            attributes={k: v.to(device) for k, v in self.attributes.items()},
        )

    def tensors(self) -> dict[str, Tensor]:
        """All that the split holds, by name: what its fingerprint is taken over."""
        stored = {name: column.data for name, column in self.columns.items()}
        return {**stored, **{f"attributes.{k}": v for k, v in self.attributes.items()}}


@dataclass
class Dataset:
    """Three splits, and what was found out about them.

    train:           what models learn from
    validation:      early stopping, search, margins
    test:            touched by the final evaluation alone
    extra:           further splits by name (`ood`: samples from outside the distribution)
    attribute_names: what the integers of each attribute mean
    files:           what models of these data ship with, by name (`tokenizer.json`)
    fingerprint:     SHA-256 over all tensors and the config; equal for equal content wherever the files lie
    """

    name: str
    spec: DataSpec
    train: Split
    validation: Split
    test: Split
    extra: dict[str, Split] = field(default_factory=dict)
    attribute_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    audit: Audit = field(default_factory=Audit)
    files: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""

    @property
    def splits(self) -> Mapping[str, Split]:
        """All splits by name, the extra ones last."""
        return {"train": self.train, "validation": self.validation, "test": self.test, **self.extra}

    def split(self, name: str) -> Split:
        """Raises CallError for a split that this data set does not have."""
        if name not in self.splits:
            raise CallError(f"the data set '{self.name}' has no split '{name}'; {nearest(name, self.splits)}")
        return self.splits[name]

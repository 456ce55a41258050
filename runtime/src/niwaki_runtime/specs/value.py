"""What one thing is, whether it is a sample, a condition or a result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.field_types import as_table, check_fields
from niwaki_runtime.specs.values import Real, Tokens, Values, values_from_json, values_to_json

__all__ = ["ValueSpec"]

AXES = {
    "image": {3: "CHW"},
    "text": {1: "T"},
    "audio": {1: "T", 2: "CT"},
    "series": {1: "T", 2: "CT"},
    "vector": {0: "", 1: "C"},
    "video": {4: "TCHW"},
    "label": {0: ""},
    "mask": {2: "HW", 3: "CHW"},
}
"""Axes of a modality by rank, where nothing else is said: C channels, T time, H height, W width."""


@dataclass(frozen=True)
class ValueSpec:
    """What one thing is, whether it is a sample, a condition or a result.

    modality: `image`, `text`, `audio`, `series`, `vector`, `video`, `label`, `mask`
    shape:    of one, without a batch axis
    axes:     a letter for each: C channels, T time, H height, W width; default: the modality's usual ones
    values:   `Real(low, high)`, `Levels(n, low, high)` or `Tokens(n, tokenizer)`
    rate:     steps of T per second, where there is a clock
    names:    of the tokens (classes), or of the channels
    """

    modality: str
    shape: tuple[int, ...] = ()
    axes: str | None = None
    values: Values = field(default_factory=Real)
    rate: float | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(int(s) < 1 for s in self.shape):
            raise CallError(f"a sample's shape must be positive in every dimension, not {self.shape}")
        if self.axes is None:
            usual = AXES.get(self.modality, {}).get(len(self.shape), "?" * len(self.shape))
            object.__setattr__(self, "axes", usual)
        if len(self.axes or "") != len(self.shape):
            raise CallError(f"axes '{self.axes}' must name each dimension of the shape {self.shape}")
        if self.is_tokens and self.names and len(self.names) != self.values.n:
            raise CallError(f"{len(self.names)} class names were given for {self.values.n} classes")

    @classmethod
    def label(cls, n: int, names: tuple[str, ...] = ()) -> ValueSpec:
        """One of `n` classes."""
        return cls("label", (), "", Tokens(n), names=names)

    @property
    def is_tokens(self) -> bool:
        """Whether values are names, which cannot be averaged or scaled."""
        return isinstance(self.values, Tokens)

    @property
    def size(self) -> int:
        """Number of values in one sample."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> str:
        """numpy name of the values as a model sees them."""
        return "int64" if self.is_tokens else "float32"

    @property
    def low(self) -> float:
        """Least value that a model sees; of tokens 0."""
        return 0.0 if isinstance(self.values, Tokens) else self.values.low

    @property
    def high(self) -> float:
        """Largest value that a model sees; of tokens the last one."""
        return float(self.values.n - 1) if isinstance(self.values, Tokens) else self.values.high

    @property
    def levels(self) -> int:
        """Number of stored levels or of tokens; 0 for real numbers."""
        return self.values.n

    def axis(self, letter: str) -> int | None:
        """Position of an axis in `shape`; None where there is none."""
        at = (self.axes or "").find(letter)
        return None if at < 0 else at

    def to_uint8(self, x: np.ndarray) -> np.ndarray:
        """Values in [low, high] → 0 … 255, rounded and clipped: what a picture file wants."""
        unit = (np.asarray(x, dtype=np.float32) - self.low) / (self.high - self.low)
        return (np.clip(unit, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = {
            "modality": self.modality,
            "shape": list(self.shape),
            "axes": self.axes,
            "values": values_to_json(self.values),
        }
        if self.rate is not None:
            record["rate"] = self.rate
        if self.names:
            record["names"] = list(self.names)
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ValueSpec:
        record = as_table(record, "a value must be a table with its 'modality' and 'shape'")
        for name in ("modality", "shape", "values"):
            if name not in record:
                raise CallError(f"the description of a value lacks '{name}'")
        given = {k: v for k, v in record.items() if k != "values"}
        check_fields(cls, given, "a value")
        return cls(
            str(record["modality"]),
            tuple(map(int, record["shape"])),
            record.get("axes"),
            values_from_json(record["values"]),
            record.get("rate"),
            tuple(record.get("names", ())),
        )

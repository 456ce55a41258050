"""What a sample is, and what it may be conditioned on.

These two records travel from the data through the model into the bundle's manifest, so they are plain, frozen
and round-trip through JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from niwaki_runtime.errors import CallError, nearest

__all__ = ["ConditionSpec", "SampleSpec", "resolve"]

Modality = Literal["image", "text", "audio", "series", "vector", "video"]
ConditionKind = Literal["class", "tokens", "image", "mask", "series"]


def _known(cls: type, record: dict[str, Any]) -> dict[str, Any]:
    """The fields of `cls` found in `record`, with JSON's lists as tuples again."""
    names = {f.name for f in fields(cls)}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in names}


@dataclass(frozen=True)
class SampleSpec:
    """One sample of a data set.

    modality:    what kind of thing it is
    shape:       of one sample, channels first for images `(C, H, W)`; `(length,)` for text
    low, high:   range of the values that a model sees and makes (continuous modalities)
    levels:      number of stored grey levels (images are kept as integers 0 … levels−1) or of tokens (text)
    classes:     number of classes, 0 where there are no labels
    class_names: one name per class, or empty
    """

    modality: Modality
    shape: tuple[int, ...]
    low: float = -1.0
    high: float = 1.0
    levels: int = 256
    classes: int = 0
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.shape or any(int(s) < 1 for s in self.shape):
            raise CallError(f"a sample's shape must be positive in every dimension, not {self.shape}")
        if not self.low < self.high:
            raise CallError(f"a value range must rise, not {self.low} … {self.high}")
        if self.class_names and len(self.class_names) != self.classes:
            raise CallError(f"{len(self.class_names)} class names were given for {self.classes} classes")

    @property
    def size(self) -> int:
        """Number of values in one sample."""
        return int(np.prod(self.shape))

    def to_uint8(self, x: np.ndarray) -> np.ndarray:
        """Values in [low, high] → 0 … 255, rounded and clipped: what a picture file wants."""
        unit = (np.asarray(x, dtype=np.float32) - self.low) / (self.high - self.low)
        return (np.clip(unit, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> SampleSpec:
        return cls(**_known(cls, record))


@dataclass(frozen=True)
class ConditionSpec:
    """Something a sample can be asked to be.

    kind:  `class` (an integer per sample), `tokens` (integers of `shape`), or an array of `shape`
    size:  number of valid integers 0 … size−1 (`class`, `tokens`); 0 for arrays
    shape: of one condition; `()` for a class
    null:  the value that means "nothing asked", for guidance; None where the model has none
    """

    kind: ConditionKind
    size: int = 0
    shape: tuple[int, ...] = ()
    null: int | None = None

    def __post_init__(self) -> None:
        if self.integer and self.size < 1:
            raise CallError(f"a condition of kind '{self.kind}' needs its number of values, not {self.size}")

    @property
    def integer(self) -> bool:
        return self.kind in ("class", "tokens")

    def check(self, name: str, value: Any, n: int) -> np.ndarray:
        """`value` as an array with one row per sample; a single value is repeated.

        Raises CallError for a wrong shape, a non-integer, or a label outside the classes.
        """
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise CallError(f"condition '{name}' must be numbers, not {array.dtype}")
        if array.shape == self.shape:
            array = np.broadcast_to(array, (n, *self.shape))
        if array.shape != (n, *self.shape):
            raise CallError(f"condition '{name}' must have the shape {(n, *self.shape)}, not {array.shape}")
        if not self.integer:
            return np.ascontiguousarray(array, dtype=np.float32)
        if array.dtype.kind not in "iub" and not np.array_equal(array, np.floor(array)):
            raise CallError(f"condition '{name}' must be integers")
        array = np.ascontiguousarray(array, dtype=np.int64)
        allowed = (array >= 0) & (array < self.size)
        if self.null is not None:
            allowed |= array == self.null
        if not allowed.all():
            bad = array[~allowed].flat[0]
            raise CallError(f"condition '{name}' has the value {bad}, outside 0 … {self.size - 1}")
        return array

    def default(self, start: int, n: int) -> np.ndarray | None:
        """What is asked when nobody asks: classes in turn, by sample index; None where none is sensible."""
        if self.kind == "class":
            return (np.arange(start, start + n, dtype=np.int64)) % self.size
        if self.null is not None:
            return np.full((n, *self.shape), self.null, dtype=np.int64 if self.integer else np.float32)
        return None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> ConditionSpec:
        return cls(**_known(cls, record))


def resolve(specs: Mapping[str, ConditionSpec], condition: Any, start: int, n: int) -> dict[str, np.ndarray]:
    """What a caller asked for, checked, with one row per sample, by condition name.

    condition: None (the defaults), a mapping of names to values, or a bare value for the model's only
               condition
    Raises CallError for an unknown name, a wrong shape, or a condition that must be given and was not.
    """
    if condition is None:
        given: dict[str, Any] = {}
    elif isinstance(condition, Mapping):
        given = dict(condition)
    elif len(specs) == 1:
        given = {next(iter(specs)): condition}
    elif not specs:
        raise CallError("this model takes no condition")
    else:
        raise CallError(f"this model takes several conditions; name them: {', '.join(specs)}")
    for name in given:
        if name not in specs:
            hint = nearest(name, specs) if specs else "it takes none"
            raise CallError(f"this model has no condition '{name}'; {hint}")
    out: dict[str, np.ndarray] = {}
    for name, spec in specs.items():
        value = spec.check(name, given[name], n) if name in given else spec.default(start, n)
        if value is None:
            raise CallError(f"condition '{name}' must be given for this model")
        out[name] = value
    return out

"""What a model can be asked for, and the check of what a caller asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.field_types import as_table, check_fields
from niwaki_runtime.specs.value import ValueSpec
from niwaki_runtime.specs.values import Real, Tokens

__all__ = ["ConditionSpec", "place_of", "resolve"]


@dataclass(frozen=True)
class ConditionSpec:
    """Something that a model can be asked for: a class, a caption, an image, a mask, a series …

    value: what it is
    null:  the value (of every entry) that means "nothing asked", for guidance; None where there is none
    """

    value: ValueSpec
    null: float | None = None

    def __post_init__(self) -> None:
        # (Comparisons before the remainder: nan and inf fail them.)
        if self.null is not None and self.integer and not (abs(self.null) < 1 << 63 and self.null % 1 == 0):
            raise CallError(f"the null of a condition of tokens must be an integer, not {self.null!r}")

    @classmethod
    def label(cls, n: int, names: tuple[str, ...] = (), null: int | None = None) -> ConditionSpec:
        """One of `n` classes."""
        return cls(ValueSpec.label(n, names), null)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def size(self) -> int:
        """Number of valid integers; 0 for amounts."""
        return self.value.values.n if self.integer else 0

    @property
    def integer(self) -> bool:
        return self.value.is_tokens

    @property
    def is_label(self) -> bool:
        """A single name for a sample: what can be asked for in turn."""
        return self.integer and self.value.shape == ()

    def check(self, name: str, value: Any, n: int) -> np.ndarray:
        """`value` as an array with one row per sample; a single value is repeated, a name becomes its number.

        Raises CallError for a wrong shape, a non-integer, or a label outside the classes.
        """
        try:
            array = np.asarray(self._numbered(name, value))
        except ValueError as error:  # lists of unequal lengths
            raise CallError(f"condition '{name}' must be lists of equal lengths: {error}") from None
        shape = self.value.shape
        if array.dtype.kind not in "biuf":
            raise CallError(f"condition '{name}' must be numbers, not {array.dtype}")
        if array.shape == shape:
            array = np.broadcast_to(array, (n, *shape))
        if array.shape != (n, *shape):
            raise CallError(f"condition '{name}' must have the shape {(n, *shape)}, not {array.shape}")
        if not self.integer:
            return np.require(array, np.float32, ["C", "W"])
        if array.dtype.kind not in "iub" and not np.array_equal(array, np.floor(array)):
            raise CallError(f"condition '{name}' must be integers")
        array = np.require(array, np.int64, ["C", "W"])
        allowed = (array >= 0) & (array < self.size)
        if self.null is not None:
            allowed |= array == self.null
        if not allowed.all():
            bad = array[~allowed].flat[0]
            raise CallError(f"condition '{name}' has the value {bad}, outside 0 … {self.size - 1}")
        return array

    def _numbered(self, name: str, value: Any) -> Any:
        """Names of classes as their numbers. Raises CallError for a name that is none."""
        if isinstance(value, list | tuple) and any(isinstance(v, str) for v in value):
            return [self._numbered(name, v) for v in value]
        if not isinstance(value, str):
            return value
        place = place_of(value, self.value.names)
        if place is not None:
            return place
        if self.value.names:
            raise CallError(f"there is no class '{value}'; {nearest(value, self.value.names)}")
        if self.is_label:
            raise CallError(f"'{value}' is no class; give a number from 0 to {self.size - 1}")
        raise CallError(f"condition '{name}' must be numbers of the shape {self.shape}, not text")

    def default(self, start: int, n: int) -> np.ndarray | None:
        """What is asked when nobody asks: labels in turn, by sample index; None where none is sensible."""
        if self.is_label:
            return (np.arange(start, start + n, dtype=np.int64)) % self.size
        if self.null is not None:
            return np.full((n, *self.shape), self.null, dtype=self.value.dtype)
        return None

    def to_json(self) -> dict[str, Any]:
        return {"value": self.value.to_json(), "null": self.null}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ConditionSpec:
        record = as_table(record, "a condition must be a table with its 'value'")
        if "value" in record:
            check_fields(cls, {"null": record.get("null")}, "a condition")
            return cls(ValueSpec.from_json(record["value"]), record.get("null"))
        kind, shape = str(record["kind"]), tuple(record.get("shape", ()))  # the first edition's
        if kind == "class":
            return cls.label(int(record["size"]), null=record.get("null"))
        values = Tokens(int(record["size"])) if kind == "tokens" else Real()
        modality = "text" if kind == "tokens" else kind
        return cls(ValueSpec(modality, shape, None, values), record.get("null"))


def place_of(text: str, names: Sequence[str]) -> int | None:
    """Which class a text means: the one of that name; a number is a position where no class has a number for
    its name, so that a text has one meaning. None where it is neither.

    >>> place_of("1", ("ant", "bee")), place_of("1", ("1", "2")), place_of("0", ("1", "2"))
    (1, 0, None)
    """
    if text in names:
        return list(names).index(text)
    if _is_number(text) and text == str(int(text)) and not any(map(_is_number, names)):
        return int(text)
    return None


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def resolve(specs: Mapping[str, ConditionSpec], inputs: Any, start: int, n: int) -> dict[str, np.ndarray]:
    """What a caller asked for, checked, with one row per sample, by input name.

    inputs: None (the defaults), a mapping of names to values, a bare value for the only input, or a function
            of (start, n) that makes one of these
    Raises CallError for an unknown name, a wrong shape, or an input that must be given and was not.
    """
    if callable(inputs):
        inputs = inputs(start, n)
    if inputs is None:
        given: dict[str, Any] = {}
    elif isinstance(inputs, Mapping):
        given = dict(inputs)
    elif len(specs) == 1:
        given = {next(iter(specs)): inputs}
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

"""What the values of one thing are: real numbers, stored levels, or names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, TypeVar

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.field_types import as_table, check_fields

__all__ = ["Levels", "Real", "Tokens", "Values", "values_from_json", "values_to_json"]

Array = TypeVar("Array")  # of numpy or torch


@dataclass(frozen=True)
class Real:
    """Amounts between `low` and `high`, stored as they are seen (float32). Infinite bounds are allowed."""

    kind: ClassVar[str] = "real"
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)

    @property
    def n(self) -> int:
        """Number of different values; 0 where they are not counted."""
        return 0

    def seen(self, stored: Array) -> Array:
        """Stored values as a model sees them."""
        return stored


MOST = 1 << 31
"""Levels or tokens; a file that asks for more is damaged."""


@dataclass(frozen=True)
class Levels:
    """Amounts in `n` equal steps: stored as integers 0 … n−1, seen as floats `low` … `high`."""

    kind: ClassVar[str] = "levels"
    n: int = 256
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)
        if not 2 <= self.n <= MOST:
            raise CallError(f"a value needs 2 to {MOST} levels, not {self.n}")

    @property
    def step(self) -> float:
        """Distance of two neighbouring levels, as they are seen."""
        return (self.high - self.low) / (self.n - 1)

    def seen(self, stored: Any) -> Any:
        """Stored levels 0 … n−1, as floats of any precision (or between two), as a model sees them."""
        # u / (n−1) first: the ends are then exactly low and high, and all values lie between them
        return stored / (self.n - 1) * (self.high - self.low) + self.low


@dataclass(frozen=True)
class Tokens:
    """Names 0 … n−1, not amounts: classes, characters, codes.

    tokenizer: name of the file that turns text into them (`tokenizer.json` in a bundle); empty without one
    end:       the token after which a sequence is over, and which fills up the rest; None where sequences
               have no end of their own
    """

    kind: ClassVar[str] = "tokens"
    n: int
    tokenizer: str = ""
    end: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MOST:
            raise CallError(f"there must be 1 to {MOST} tokens, not {self.n}")
        if self.end is not None and not 0 <= self.end < self.n:
            raise CallError(f"the token that ends a sequence must be one of 0 … {self.n - 1}, not {self.end}")

    def seen(self, stored: Array) -> Array:
        """Names as they are."""
        return stored


Values = Real | Levels | Tokens

_KINDS: dict[str, type[Any]] = {cls.kind: cls for cls in (Real, Levels, Tokens)}


def values_to_json(values: Values) -> dict[str, Any]:
    """Plain JSON; infinite bounds are written as text, which JSON has."""
    record = {k: str(v) if isinstance(v, float) and math.isinf(v) else v for k, v in asdict(values).items()}
    if record.get("end", 0) is None:  # records from before there was one stay as they are
        del record["end"]
    return {"kind": values.kind, **record}


def values_from_json(record: Mapping[str, Any]) -> Values:
    """The values that `values_to_json` described. Raises CallError for an unknown kind."""
    rest = as_table(record, "values must be a table with their 'kind'")
    kind = str(rest.pop("kind", ""))
    if kind not in _KINDS:
        raise CallError(f"this version knows no values of the kind '{kind:.40}'; {nearest(kind, _KINDS)}")
    cls = _KINDS[kind]
    # JSON has no infinity: bounds may be written as text
    known = {k: float(v) if v in ("inf", "-inf") else v for k, v in rest.items() if k in cls.__annotations__}
    check_fields(cls, known, f"values of the kind '{kind}'")
    if cls is Tokens and "n" not in known:
        raise CallError("values of the kind 'tokens' must say how many tokens there are ('n')")
    return cls(**{k: float(v) if k in ("low", "high") else v for k, v in known.items()})  # type: ignore[no-any-return]


def _check_range(low: float, high: float) -> None:
    if not low < high:
        raise CallError(f"a value range must rise, not {low} … {high}")

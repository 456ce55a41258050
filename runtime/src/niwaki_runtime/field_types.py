"""Values from files and calls, checked against the types that a dataclass declares."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

from niwaki_runtime.errors import CallError

__all__ = ["as_table", "check_fields", "fits"]

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def as_table(record: Any, said: str) -> dict[str, Any]:
    """A copy of a table. Raises CallError, which begins with what was `said` of it, for anything else."""
    if not isinstance(record, Mapping):
        raise CallError(f"{said}, not {record!r:.80}")
    return dict(record)


def check_fields(cls: type[Any], values: Mapping[str, Any], owner: str) -> None:
    """Raises CallError naming the first of `values` that is not of the type that `cls` declares for it.

    owner: whose fields they are, as messages call it
    Names that `cls` does not declare, and types of our own, are left to whoever reads them.
    """
    declared = _types(cls)  # type: ignore[arg-type]
    for name, value in values.items():
        if name in declared and not fits(value, declared[name]):
            raise CallError(f"'{name}' of {owner} must be {_words(declared[name])}, not {value!r:.80}")


def fits(value: Any, declared: Any) -> bool:
    """Whether a value is of a type: whole numbers pass for numbers, lists for tuples, true and false for
    nothing else.

    >>> fits(3, float), fits(True, int), fits([1, 2], tuple[int, ...]), fits(None, int | None)
    (True, False, True, True)
    """
    origin, inner = get_origin(declared), get_args(declared)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        if len(inner) == 2 and inner[1] is Ellipsis:
            return all(fits(one, inner[0]) for one in value)
        return len(value) == len(inner) and all(map(fits, value, inner))
    if origin in (dict, Mapping):
        return isinstance(value, Mapping) and all(
            fits(k, inner[0]) and fits(v, inner[1]) for k, v in value.items()
        )
    if declared is type(None):
        return value is None
    if declared in (int, float):
        whole = hasattr(value, "__index__") and not isinstance(value, bool)
        return whole or (
            declared is float and hasattr(value, "__float__") and not isinstance(value, bool | str)
        )
    if declared in (str, bool):
        return isinstance(value, declared)
    return True


@functools.cache
def _types(cls: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {
        k: hints[k] for k in getattr(cls, "__dataclass_fields__", {}) if get_origin(hints[k]) is not ClassVar
    }


def _words(declared: Any) -> str:
    origin, inner = get_origin(declared), get_args(declared)
    if origin in (Union, types.UnionType):
        return " or ".join("nothing" if one is type(None) else _words(one) for one in inner)
    if origin is tuple:
        return f"a list, each of it {_words(inner[0])}"
    if origin in (dict, Mapping):
        return f"a table of names, each with {_words(inner[1])}"
    return _WORDS.get(declared, getattr(declared, "__name__", str(declared)))

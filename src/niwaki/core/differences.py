"""What differs between two records, by dotted keys: the same names as in a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from niwaki.core.store import hash_json

__all__ = ["ABSENT", "Difference", "differences"]


class _Absent:
    """Stands for a key that one side does not have."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


class Difference(NamedTuple):
    """One setting that is not what it was.

    key:       dotted, a number counting into a list: `train.stages.1.steps`
    then, now: its values; `ABSENT` where a side has none
    """

    key: str
    then: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key} was {_shown(self.then)} and is {_shown(self.now)}"


def differences(then: Any, now: Any, key: str = "") -> list[Difference]:
    """Everything that differs, in the order of the keys; lists of one length are compared item by item.

    A key that is missing on one side equals None on the other, as in a recipe.
    """
    return list(_walk(then, now, key))


def _walk(then: Any, now: Any, key: str) -> Iterator[Difference]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*then, *now]):
            yield from _walk(
                then.get(name, ABSENT), now.get(name, ABSENT), f"{key}.{name}" if key else str(name)
            )
    elif isinstance(then, list | tuple) and isinstance(now, list | tuple) and len(then) == len(now):
        for at, (one, other) in enumerate(zip(then, now, strict=True)):
            yield from _walk(one, other, f"{key}.{at}")
    elif hash_json(_plain(then)) != hash_json(_plain(now)):
        yield Difference(key, then, now)


def _plain(value: Any) -> Any:
    return None if value is ABSENT else value


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "…"

"""`section.key=value` on the command line changes anything in a recipe; values are read as YAML."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from niwaki.core.contract import CallError
from niwaki.recipe.strict_yaml import parse_yaml

__all__ = ["apply_overrides", "parse_override"]


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """`"train.steps=100"` → `(("train", "steps"), 100)`. Raises CallError where there is no key or no '='."""
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise CallError(f"'{text}' is not an override; write section.key=value, such as train.steps=100")
    return path, parse_yaml(value, f"the value of '{key.strip()}'")


def apply_overrides(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of a recipe's plain values with each override set.

    In a list, the path goes by number, or by the `kind` or `name` of the entry (`compress.steps.prune.ratio`,
    `train.stages.codec.steps`). An entry that is set to null is left out.

    Whether the keys exist is for the schema to say; here only the way to them must lead through mappings and
    lists.
    """
    result = copy.deepcopy(dict(values))
    shortened: list[list[Any]] = []
    for text in overrides:
        path, value = parse_override(text)
        place: Any = result
        for depth, part in enumerate(path):
            key = _key(place, part, path[: depth + 1])
            if depth == len(path) - 1:
                if value is None and isinstance(place, list) and isinstance(place[int(key)], dict):
                    shortened.append(place)
                place[key] = value
            else:
                if isinstance(place, dict) and place.get(key) is None:
                    place[key] = {}
                place = place[key]
    for entries in shortened:  # now, so that numbers mean the same in all overrides
        entries[:] = [entry for entry in entries if entry is not None]
    return result


def _key(place: Any, part: str, path: tuple[str, ...]) -> str | int:
    if isinstance(place, dict):
        return part
    above = ".".join(path[:-1])
    if not isinstance(place, list):
        raise CallError(f"'{above}' is a single value, so '{'.'.join(path)}' cannot be set")
    if not part.isdigit():
        return _by_name(place, part, above)
    if int(part) >= len(place):
        raise CallError(
            f"'{above}' is a list of {len(place)}; write '{above}.0' … '{above}.{len(place) - 1}'"
        )
    return int(part)


def _by_name(entries: list[Any], part: str, above: str) -> int:
    """Where the entry of that kind or name stands."""
    names = [
        entry.get("kind", entry.get("name")) if isinstance(entry, Mapping) else None for entry in entries
    ]
    places = [at for at, name in enumerate(names) if name == part]
    if len(places) == 1:
        return places[0]
    if places:
        each = ", ".join(f"'{above}.{at}'" for at in places)
        raise CallError(f"'{above}' holds several '{part}'; name one by its number: {each}")
    known = [str(name) for name in names if name is not None]
    if known:
        holds = ", ".join(known)
        raise CallError(f"'{above}' holds {holds}, and no '{part}'; name one of these, or its number from 0")
    raise CallError(
        f"'{above}' is a list of {len(entries)}; write '{above}.0' … '{above}.{len(entries) - 1}'"
    )

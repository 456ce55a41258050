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
    """A copy of a recipe's plain values with each override set; a number in the path counts into a list.

    Whether the keys exist is for the schema to say; here only the way to them must lead through mappings and
    lists.
    """
    result = copy.deepcopy(dict(values))
    for text in overrides:
        path, value = parse_override(text)
        place: Any = result
        for depth, part in enumerate(path):
            key = _key(place, part, path[: depth + 1])
            if depth == len(path) - 1:
                place[key] = value
            else:
                if isinstance(place, dict) and place.get(key) is None:
                    place[key] = {}
                place = place[key]
    return result


def _key(place: Any, part: str, path: tuple[str, ...]) -> str | int:
    if isinstance(place, dict):
        return part
    above = ".".join(path[:-1])
    if not isinstance(place, list):
        raise CallError(f"'{above}' is a single value, so '{'.'.join(path)}' cannot be set")
    if not part.isdigit() or int(part) >= len(place):
        raise CallError(
            f"'{above}' is a list of {len(place)}; write '{above}.0' … '{above}.{len(place) - 1}'"
        )
    return int(part)

"""What is changed in a recipe: `section.key=value` on the command line, whose values are read as YAML, or a
mapping in Python."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from niwaki.core.contract import CallError
from niwaki.recipe.plain import plain, said
from niwaki.recipe.strict_yaml import parse_yaml

__all__ = ["Override", "Overrides", "apply_overrides", "parse_override", "parse_overrides", "value_at"]


class Override(NamedTuple):
    """One change.

    path:   to the setting, by names and numbers
    value:  that it gets, plain
    within: of a mapping, only the settings that it names are changed, and others stay
    """

    path: tuple[str, ...]
    value: Any
    within: bool = False

    @property
    def section(self) -> str:
        return self.path[0]

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}={said(self.value)}"


Overrides = Sequence[str | Override] | Mapping[str, Any]
"""`["train.steps=700"]`, `{"train.steps": 700}` or `{"train": {"steps": 700}}`."""


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """`"train.steps=100"` → `(("train", "steps"), 100)`. Raises CallError where there is no key or no '='."""
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise CallError(f"'{text}' is not an override; write section.key=value, such as train.steps=100")
    return path, parse_yaml(value, f"the value of '{key.strip()}'")


def parse_overrides(given: Overrides) -> list[Override]:
    """Changes one after another.

    In a mapping, a dotted name sets its value whole, as `section.key=value` does; a mapping under the name of
    a section changes only what it names. Raises CallError for what is neither text nor mapping.

    >>> parse_overrides({"train": {"steps": 7}})
    [Override(path=('train', 'steps'), value=7, within=True)]
    """
    if isinstance(given, Mapping):
        return [change for name, value in given.items() for change in _of_mapping(_path(name), value)]
    changes = [given] if isinstance(given, str | Override) else list(given)
    for change in changes:
        if not isinstance(change, str | Override):
            raise CallError(
                f"{said(change)} is not an override; write 'train.steps=100', or give a mapping: "
                "{'train.steps': 100}"
            )
    return [
        change if isinstance(change, Override) else Override(*parse_override(change)) for change in changes
    ]


def _path(name: Any) -> tuple[str, ...]:
    path = tuple(part.strip() for part in str(name).split("."))
    if not all(path):
        raise CallError(f"'{name}' is no name of a setting; write one such as 'train.steps'")
    return path


def _of_mapping(path: tuple[str, ...], value: Any) -> list[Override]:
    if len(path) > 1 or not isinstance(value, Mapping) or not value:
        return [Override(path, plain(value), within=value == {})]
    return [
        Override((*path, *_path(name)), plain(inner), within="." not in str(name))
        for name, inner in value.items()
    ]


def apply_overrides(values: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """A copy of a recipe's plain values with each override set.

    In a list, the path goes by number, or by the `kind` or `name` of the entry (`compress.steps.prune.ratio`,
    `train.stages.codec.steps`). An entry that is set to null is left out.

    Whether the keys exist is for the schema to say; here only the way to them must lead through mappings and
    lists.
    """
    result = copy.deepcopy(dict(values))
    shortened: list[list[Any]] = []
    for change in parse_overrides(overrides):
        _set(result, change, shortened)
    for entries in shortened:  # now, so that numbers mean the same in all overrides
        entries[:] = [entry for entry in entries if entry is not None]
    return result


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """What a dotted key, as in `apply_overrides`, leads to; None where nothing is there."""
    place: Any = values
    path = _path(key)
    for depth, part in enumerate(path):
        if place is None:
            return None
        at = _key(place, part, path[: depth + 1])
        place = place.get(at) if isinstance(place, dict) else place[int(at)]
    return place


def _set(values: dict[str, Any], change: Override, shortened: list[list[Any]]) -> None:
    path, value = change.path, change.value
    place: Any = values
    for depth, part in enumerate(path[:-1]):
        key = _key(place, part, path[: depth + 1])
        if isinstance(place, dict) and place.get(key) is None:
            place[key] = {}
        place = place[key]
    key = _key(place, path[-1], path)
    held = place.get(key) if isinstance(place, dict) else place[int(key)]
    if change.within and isinstance(value, Mapping) and isinstance(held, dict | list):
        for name, inner in value.items():
            _set(values, Override((*path, *_path(name)), inner, within=True), shortened)
        return
    if value is None and isinstance(held, dict) and isinstance(place, list):
        shortened.append(place)
    place[key] = value


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

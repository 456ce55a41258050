"""What pydantic found wrong, as one sentence with the dotted key and the nearest right name."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ValidationError

from niwaki.core.errors import nearest

__all__ = ["sentence"]

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping of settings",
    "model": "a section of settings",
    "mapping": "a mapping of settings",
    "path": "a path",
    "decimal": "a number",
}
_BOUNDS = {
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
    "finite_number": "finite",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-'",
    "string_too_long": "text of at most {max_length} letters",
    "string_too_short": "text of at least {min_length} letters",
}


def sentence(
    error: ValidationError,
    root: type[BaseModel],
    owner: str = "",
    section: str = "",
    more: Iterable[str] = (),
) -> str:
    """The first thing wrong; unknown keys come before the settings that miss because of them.

    owner:   whose settings these are, "the model 'dcgan'"; where nothing is said, those of the recipe
    section: of the recipe that they stand in
    more:    names beside those of `root` that stand in the same place
    """
    errors = error.errors(include_url=False)
    found = min(errors, key=lambda e: e["type"] not in ("extra_forbidden", "union_tag_invalid"))
    keys, place = _walk(root, found["loc"])
    for other in errors:  # of the members of a union that were tried, the one that came furthest knows best
        deeper, there = _walk(root, other["loc"])
        if len(deeper) > len(keys) and deeper[: len(keys)] == keys:
            found, keys, place = other, deeper, there
    key = ".".join([*filter(None, [section]), *keys])
    named = f"'{key}' of {owner}" if owner else f"'{key}'"
    value = found.get("input")
    context = found.get("ctx", {})
    match found["type"]:
        case "extra_forbidden":
            whole = ".".join(keys) if owner else key
            return f"{owner or 'the recipe'} has no setting '{whole}'; {_hint(keys, place, root, more)}"
        case "missing":
            return f"{owner} needs '{key}'" if owner else f"the recipe must set '{key}'"
        case "union_tag_invalid":
            tag = context.get("discriminator", "'kind'").strip("'")
            valid = [v.strip().strip("'") for v in str(context.get("expected_tags", "")).split(",")]
            return (
                f"'{key}.{tag}' cannot be '{context.get('tag')}'; {nearest(str(context.get('tag')), valid)}"
            )
        case "union_tag_not_found":
            tag = context.get("discriminator", "'kind'").strip("'")
            return f"{owner} needs '{key}.{tag}'" if owner else f"the recipe must set '{key}.{tag}'"
        case "literal_error" | "enum":
            valid = _choices(str(context.get("expected", "")))
            return f"{named} cannot be {_shown(value)}; {nearest(str(value), valid)}"
        case "no_number":
            whole = ".".join([*filter(None, [key]), context["field"]])
            of = f" of {owner}" if owner else ""
            return f"'{whole}'{of} must be {context['kind']}, not {context['given']}"
        case "value_error" | "assertion_error":
            told = str(context.get("error", found["msg"])).rstrip(".")
            if not keys:  # said of all settings together: the text names those that it is about
                return f"{owner}: {told}" if owner else told
            return f"{named}: {told}"
    if found["type"] in _BOUNDS:
        bounds = {k: f"{v:g}" if isinstance(v, int | float) else v for k, v in context.items()}
        return f"{named} must be {_BOUNDS[found['type']].format_map(bounds)}, not {_shown(value)}"
    kind = _KINDS.get(found["type"].split("_")[0])
    if len([e for e in errors if e["loc"][: len(keys)] == found["loc"][: len(keys)]]) > 1:
        kind = _accepted(root, keys) or kind
    if kind:
        return f"{named} must be {kind}, not {_shown(value)}"
    return f"{named}: {found['msg'][0].lower()}{found['msg'][1:]}"


def _shown(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _choices(expected: str) -> list[str]:
    """pydantic's `'a', 'b' or 'c'` as names."""
    return [part.strip().strip("'") for part in expected.replace(" or ", ", ").split(",") if part.strip()]


def _hint(keys: list[str], place: type[BaseModel] | None, root: type[BaseModel], more: Iterable[str]) -> str:
    """The nearest name in the same section, or the section that such a setting belongs to."""
    valid = [*(place.model_fields if place else []), *(more if len(keys) == 1 else [])]
    hint = nearest(keys[-1], valid)
    if not hint.startswith("did you mean"):
        for section, field in root.model_fields.items():
            for model in _models(field.annotation):
                if keys[-1] in model.model_fields:
                    return f"did you mean '{section}.{keys[-1]}'?"
    return hint


def _walk(root: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[str], type[BaseModel] | None]:
    """The key as a user writes it, and the section it stands in.

    pydantic's location also names the members of unions that it tried; those are no part of the key.
    """
    keys: list[str] = []
    owner: type[BaseModel] | None = None
    here: list[Any] = [root]
    for part in loc:
        options = [o for annotation in here for o in _options(annotation)]
        models = [o for o in options if _is_model(o)]
        tagged = [m for m in models if part in _tags(m)]
        holders = [m for m in models if part in m.model_fields]
        inside = [a for o in options for a in _items(o, part)]
        if tagged and not holders:
            here, owner = tagged, tagged[0]
        elif holders:
            owner, here = holders[0], [holders[0].model_fields[str(part)].annotation]
            keys.append(str(part))
        elif inside and not _names_member(part, options):
            here = inside
            keys.append(str(part))
        elif _names_member(part, options):
            continue
        else:
            owner = models[0] if models else owner
            keys.append(str(part))
    return keys, owner


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _options(annotation: Any) -> Iterator[Any]:
    """The members of a union, however it is wrapped."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        yield from _options(typing.get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _options(member)
    else:
        yield annotation


def _models(annotation: Any) -> list[type[BaseModel]]:
    return [o for o in _options(annotation) if _is_model(o)]


def _items(annotation: Any, part: int | str) -> list[Any]:
    """What stands at `part` of a list, a tuple or a mapping."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict and len(args) == 2:
        return [args[1]]
    if origin in (list, tuple) and args and isinstance(part, int):
        return [args[0] if len(args) == 1 or args[-1] is Ellipsis else args[min(part, len(args) - 1)]]
    return []


def _tags(model: type[BaseModel]) -> set[Any]:
    """Values of the model's literal fields: what tells it apart in a discriminated union."""
    return {
        value
        for field in model.model_fields.values()
        if typing.get_origin(field.annotation) is Literal
        for value in typing.get_args(field.annotation)
        if field.default == value
    }


def _names_member(part: int | str, options: list[Any]) -> bool:
    """Whether a location part is pydantic's name for a member of a union (`float`, `dict[str,float]`, a
    class)."""
    if isinstance(part, int) or len(options) < 2:
        return False
    names = {getattr(o, "__name__", str(o)) for o in options}
    part = part.removeprefix("constrained-")
    return part in names or "[" in part or part in _KINDS or part == "none"


def _accepted(root: type[BaseModel], keys: list[str]) -> str | None:
    """What a setting of several types may be: "a number or a mapping of settings"."""
    here: Any = root
    for key in keys:
        found = next((m for m in _models(here) if key in m.model_fields), None)
        if found is None:
            return None
        here = found.model_fields[key].annotation
    words = []
    for option in _options(here):
        name = (typing.get_origin(option) or option).__name__ if option is not type(None) else "none"
        words.append({"str": "text", "none": "null"}.get(name) or _KINDS.get(name) or name)
    return " or ".join(dict.fromkeys(words)) if len(words) > 1 else None

"""JSON schemas as regular expressions: the part of them that says how a text is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.samplers.steer import Steer
from niwaki_runtime.steering.constraint import constraint
from niwaki_runtime.steering.registry import steering

__all__ = ["expression_of"]

_CHARACTER = r'(?:[^"\\\x00-\x1f]|\\["\\/bfnrt])'
_WHOLE = r"-?(?:0|[1-9][0-9]{0,14})"
_NUMBER = _WHOLE + r"(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?"
_SAYS_NOTHING = {"title", "description", "examples", "default", "$schema", "$id", "$comment"}
_BETWEEN, _AFTER_NAME = ", ?", ": ?"


def expression_of(schema: Any) -> str:
    """The expression of all texts that a schema allows; a blank may stand after `,` and `:`.

    Known are `type` (also several): `object` with `properties`, all of them required, in their order;
    `array` with `items`, `minItems`, `maxItems`; `string` with `minLength`, `maxLength`; `number`, `integer`,
    `boolean`, `null`; and `enum`, `const`, `anyOf`. Numbers have at most fifteen digits before and after the
    point. Raises CallError that names what else the schema asks.
    """
    return _value(schema, "the schema")


def _value(schema: Any, place: str) -> str:
    if not isinstance(schema, Mapping):
        raise CallError(f"{place} must be a table that says what is allowed, not {schema!r:.80}")
    asked = {k: v for k, v in schema.items() if k not in _SAYS_NOTHING}
    says = [name for name in ("const", "enum", "anyOf", "type") if name in asked]
    if not says:
        raise CallError(f"{place} has no 'type', 'enum', 'const' or 'anyOf', and anything goes: say which")
    first = says[0]
    if first == "type":
        return _typed(asked, place)
    _refuse_others(asked, {first, "type"} if first != "anyOf" else {first}, place)
    values = [asked["const"]] if first == "const" else asked[first]
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise CallError(f"'{first}' of {place} must be a list with something in it")
    if first == "anyOf":
        return _any([_value(one, f"choice {i + 1} of {place}") for i, one in enumerate(values)])
    kinds = _kinds(asked, place) if "type" in asked else list(_KINDS)
    kept = [v for v in values if any(_is(kind, v) for kind in kinds)]
    if not kept:
        raise CallError(f"no value of '{first}' of {place} is of its type")
    return _any([_literal(value) for value in kept])


def _typed(asked: Mapping[str, Any], place: str) -> str:
    kinds = _kinds(asked, place)
    _refuse_others(asked, {"type"}.union(*(_KINDS[kind][1] for kind in kinds)), place)
    return _any([_KINDS[kind][0](asked, place) for kind in kinds])


def _kinds(asked: Mapping[str, Any], place: str) -> list[str]:
    given = asked["type"]
    kinds = [given] if isinstance(given, str) else list(given) if isinstance(given, list | tuple) else []
    for kind in kinds or [given]:
        if not isinstance(kind, str) or kind not in _KINDS:
            raise CallError(f"{place} is of no known type {kind!r}; {nearest(str(kind), _KINDS)}")
    return kinds


def _object(asked: Mapping[str, Any], place: str) -> str:
    properties, required = asked.get("properties", {}), asked.get("required", [])
    if not isinstance(properties, Mapping) or not isinstance(required, list | tuple):
        raise CallError(f"'properties' of {place} must be a table, and 'required' a list")
    for name in properties:
        if name not in required:
            raise CallError(f"property '{name}' of {place} may be left out; only required ones can be asked")
    for name in required:
        if name not in properties:
            raise CallError(f"property '{name}' of {place} is required, and nothing says what it is")
    if not isinstance(asked.get("additionalProperties", False), bool):
        raise CallError(f"{place} says what further properties are; only those that it names can be asked")
    members = [
        _literal(str(name)) + _AFTER_NAME + _value(one, f"property '{name}'")
        for name, one in properties.items()
    ]
    return r"\{" + _BETWEEN.join(members) + r"\}"


def _array(asked: Mapping[str, Any], place: str) -> str:
    if "items" not in asked:
        raise CallError(f"{place} does not say what its 'items' are")
    item = _value(asked["items"], f"an item of {place}")
    least, most = _bounds(asked, "minItems", "maxItems", place)
    if most == 0:
        return r"\[\]"
    rest = f"(?:{_BETWEEN}{item}){{{max(least - 1, 0)},{'' if most is None else most - 1}}}"
    return rf"\[{item}{rest}\]" if least else rf"\[(?:{item}{rest})?\]"


def _string(asked: Mapping[str, Any], place: str) -> str:
    least, most = _bounds(asked, "minLength", "maxLength", place)
    return f'"{_CHARACTER}{{{least},{"" if most is None else most}}}"'


def _bounds(asked: Mapping[str, Any], low: str, high: str, place: str) -> tuple[int, int | None]:
    least, most = asked.get(low, 0), asked.get(high)
    for name, value in ((low, least), (high, 0 if most is None else most)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise CallError(f"'{name}' of {place} must be a whole number from 0 on, not {value!r:.80}")
    if most is not None and most < least:
        raise CallError(f"'{high}' of {place} is below '{low}': nothing fulfils it")
    return least, most


_KINDS: dict[str, tuple[Callable[[Mapping[str, Any], str], str], set[str]]] = {
    "object": (_object, {"properties", "required", "additionalProperties"}),
    "array": (_array, {"items", "minItems", "maxItems"}),
    "string": (_string, {"minLength", "maxLength"}),
    "number": (lambda asked, place: _NUMBER, set()),
    "integer": (lambda asked, place: _WHOLE, set()),
    "boolean": (lambda asked, place: "(?:true|false)", set()),
    "null": (lambda asked, place: "null", set()),
}
"""Types → how their values are written, and what else a schema may say of them."""
_PYTHON: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def _is(kind: str, value: Any) -> bool:
    return isinstance(value, _PYTHON[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _literal(value: Any) -> str:
    try:
        return re.escape(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CallError(f"{value!r:.80} cannot be written as JSON") from error


def _any(expressions: Sequence[str]) -> str:
    return expressions[0] if len(expressions) == 1 else f"(?:{'|'.join(expressions)})"


def _refuse_others(asked: Mapping[str, Any], known: set[str], place: str) -> None:
    for name in asked:
        if name not in known:
            raise CallError(f"{place} asks '{name}', which texts cannot be steered by here")


@steering("schema")
def json_schema(value: Any, vocabulary: Any) -> Steer:
    """`schema={"type": "object", …}`, or its text"""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise CallError(f"the schema is no JSON: {error}") from error
    return constraint(expression_of(value), vocabulary(), "the schema")

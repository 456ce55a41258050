"""JSON by a schema: whatever the model, what it makes can be read and fulfils the schema."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from runtime.random_texts import RandomTexts, pieces_tokenizer

from niwaki_runtime.errors import CallError
from niwaki_runtime.steering import expression_of
from niwaki_runtime.tokenizer import Tokenizer

PERSON = {
    "title": "A person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 5, "description": "as it is said"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["a", 'b "c"', 3]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
SCHEMAS = [
    PERSON,
    {"type": "string"},
    {"type": "number"},
    {"type": "integer"},
    {"type": "boolean"},
    {"type": "null"},
    {"type": ["null", "boolean", "number"]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    {"type": "array", "items": {"type": "array", "items": {"type": "null"}}},
    {"type": "array", "items": {"type": "number"}, "maxItems": 0},
    {"type": "object", "properties": {}},
    {"type": "object", "properties": {"x": PERSON}, "required": ["x"]},
    {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"é": {"const": [1]}}, "required": ["é"]}]},
    {"enum": [1, "two", None, {"three": 3}, [4.5]]},
    {"enum": [1, "two", 2.5, True], "type": ["string", "number"]},
]
PIECES = [*(bytes([b]) for b in range(256)), '{"', '": ', '", "', "}]", "12", "é", "日", "null", "tru", '\\"']


def fulfils(value: Any, schema: Any) -> bool:
    """The same part of JSON Schema, as values."""
    if "const" in schema:
        return json.dumps(value) == json.dumps(schema["const"])
    if "anyOf" in schema:
        return any(fulfils(value, one) for one in schema["anyOf"])
    kinds = schema.get("type", ["object", "array", "string", "number", "boolean", "null"])
    if not any(_of(kind, value, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    return "enum" not in schema or json.dumps(value) in map(json.dumps, schema["enum"])


def _of(kind: str, value: Any, schema: Any) -> bool:
    if kind == "object":
        asked = schema.get("properties", {})
        if "enum" in schema or not isinstance(value, dict):
            return isinstance(value, dict)
        return list(value) == list(asked) and all(fulfils(value[k], asked[k]) for k in asked)
    if kind == "array":
        if "items" not in schema or not isinstance(value, list):
            return isinstance(value, list)
        few, many = schema.get("minItems", 0), schema.get("maxItems", 1 << 30)
        return few <= len(value) <= many and all(fulfils(v, schema["items"]) for v in value)
    if kind == "string":
        few, many = schema.get("minLength", 0), schema.get("maxLength", 1 << 30)
        return isinstance(value, str) and few <= len(value) <= many
    if kind == "null":
        return value is None
    if kind == "boolean":
        return isinstance(value, bool)
    return isinstance(value, int if kind == "integer" else int | float) and not isinstance(value, bool)


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: json.dumps(s)[:40])
@pytest.mark.parametrize("options", [{}, {"stop": 266}, {"temperature": 0.3, "top_p": 0.8}], ids=str)
def test_what_is_made_fulfils_the_schema(schema: Any, options: dict[str, Any]) -> None:
    for seed in range(3):
        model = RandomTexts(pieces_tokenizer(PIECES, ["<end>"]), len(PIECES) + 1, 60, seed=seed)
        tokenizer = Tokenizer(model.files["tokenizer.json"])
        for row in model.sample(6, seed=seed, schema=schema, **options):
            text = tokenizer.to_bytes(row).decode()
            assert fulfils(json.loads(text), schema), text


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda s: json.dumps(s)[:40])
def test_another_reader_of_schemas_agrees(schema: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    model = RandomTexts(pieces_tokenizer(PIECES), len(PIECES), 60)
    tokenizer = Tokenizer(model.files["tokenizer.json"])
    for row in model.sample(12, schema=json.dumps(schema)):
        jsonschema.validate(json.loads(tokenizer.decode(row)), schema)


@pytest.mark.parametrize(
    "value",
    [0, -12, 1.5, -0.25, 1e30, "", "é日", 'quoted " and \\', "\n\t", True, None, [], {}],
    ids=repr,
)
def test_values_are_written_as_json_writes_them(value: Any) -> None:
    """Every value of a type is among its texts, as `json.dumps` writes it."""
    kinds = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}
    schema: dict[str, Any] = {"type": kinds.get(type(value), "")}
    if isinstance(value, list | dict):
        schema = {"enum": [value]}
    for separators in ((", ", ": "), (",", ":")):
        text = json.dumps(value, ensure_ascii=False, separators=separators)
        assert re.fullmatch(expression_of(schema), text)


def test_both_ways_of_writing_are_texts_of_a_schema() -> None:
    value = {"name": "Ada", "age": 36, "tags": ["a", 'b "c"']}
    for separators in ((", ", ": "), (",", ":")):
        assert re.fullmatch(expression_of(PERSON), json.dumps(value, separators=separators))
    for wrong in ({**value, "age": 1.5}, {**value, "tags": ["a"] * 3}, {**value, "more": 1}, {"name": "Ada"}):
        assert not re.fullmatch(expression_of(PERSON), json.dumps(wrong))


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({}, "anything goes"), ({"type": "date"}, "no known type"), ([], "must be a table"),
        ({"type": "string", "pattern": "a+"}, "'pattern'"), ({"type": "integer", "minimum": 3}, "'minimum'"),
        ({"type": "object", "properties": {"a": {"type": "null"}}}, "property 'a' of the schema may be left"),
        ({"type": "object", "required": ["a"]}, "nothing says what it is"), ({"type": "array"}, "'items'"),
        ({"$ref": "#/x"}, "anything goes"), ({"type": "string", "maxLength": 1, "minLength": 2}, "below"),
        ({"type": "string", "maxLength": -1}, "whole number"), ({"enum": []}, "something in it"),
        ({"enum": ["a"], "type": "null"}, "of its type"), ({"type": []}, "no known type"),
        ({"type": "object", "properties": {}, "additionalProperties": {"type": "null"}}, "further"),
        ({"type": "array", "items": {"type": "null", "format": "x"}}, "an item of the schema asks 'format'"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_in_a_sentence(schema: Any, named: str) -> None:
    with pytest.raises(CallError, match=named):
        expression_of(schema)


def test_a_text_that_is_no_schema_is_refused() -> None:
    with pytest.raises(CallError, match="no JSON"):
        RandomTexts(pieces_tokenizer(PIECES), len(PIECES), 9).sample(1, schema="{")

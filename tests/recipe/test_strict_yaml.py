from __future__ import annotations

import math

import pytest

from niwaki.core.contract import CallError
from niwaki.recipe import parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("-2E+3", -2000.0), (".5e1", 5.0), ("3", 3), ("0.5", 0.5), ("true", True),
     ("null", None), ("[1, 2]", [1, 2]), ("{a: 1}", {"a": 1}), ("text", "text"), ("", None),
     ("e5", "e5"), ("1e", "1e")],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse_yaml(text, "here")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3\n", "here, line 3: the key 'a' stands twice; keep one of them"),
        ("a:\n  x: 1\n  x: 1\n", "here, line 3: the key 'x' stands twice; keep one of them"),
        ("a: [1, 2\nb: 3", "here, line 2: this is not YAML"),
        ("a: !!python/object/apply:os.system ['true']", "this is not YAML"),
        ("? [1]\n: 2", "here, line 1: a key must be a plain word"),
    ],
)
def test_broken_yaml_is_one_sentence_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(CallError) as error:
        parse_yaml(text, "here")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("Off", "Off"), ("y", "y"), ("true", True),
        ("FALSE", False),         ("~", None), ("", None), ("null", None), ("Null", None), ("nil", "nil"),
        ("0", 0), ("-7", -7), ("+3", 3), ("0x1F", 31), ("0o17", 15), ("1_000", "1_000"), ("0b11", "0b11"),
        ("1:30", "1:30"), ("190:20:30", "190:20:30"), ("2026-11-29", "2026-11-29"), ("1e3", 1000.0),
        ("1e-4", 1e-4), ("-.5", -0.5), ("5.", 5.0), (".inf", math.inf), ("-.INF", -math.inf), ("inf", "inf"),
        ("'010'", "010"), ("=", "="),
    ],
)  # fmt: skip
def test_plain_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    """Section 10.3.2, "Core schema"."""
    found = parse_yaml(f"a: {text}", "x")["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["010", "-07", "00", "0900"])
def test_a_number_that_may_be_octal_is_refused(text: str) -> None:
    with pytest.raises(CallError, match=rf"x, line 2: '{text}' is .* octal to others; write"):
        parse_yaml(f"b: 1\na: {text}", "x")


def test_merge_keys_work_and_a_key_beside_them_wins() -> None:
    text = "s: &s {name: a, steps: 5}\nt: {<<: *s, name: b}\nu:\n  <<: [*s, {lr: 1}]\n"
    found = parse_yaml(text, "x")
    assert found["t"] == {"name": "b", "steps": 5}
    assert found["u"] == {"name": "a", "steps": 5, "lr": 1}

from __future__ import annotations

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
        ("a: 2001-13-45", "this is not YAML"),
    ],
)
def test_broken_yaml_is_one_sentence_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(CallError) as error:
        parse_yaml(text, "here")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)

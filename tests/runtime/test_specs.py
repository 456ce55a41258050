"""Specs: values to pictures, conditions checked, JSON there and back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.specs import ConditionSpec, DataSpec, resolve


def test_sixteen_levels_come_back_from_the_model_range() -> None:
    spec = DataSpec.of("image", (1, 1, 17), levels=17)
    x = -1 + 2 * np.arange(17) / 16
    np.testing.assert_array_equal(spec.to_uint8(x), np.floor(np.arange(17) / 16 * 255 + 0.5))
    np.testing.assert_array_equal(spec.to_uint8(np.array([-9.0, 9.0])), [0, 255])
    assert spec.size == 17


@pytest.mark.parametrize(
    "spec",
    [
        DataSpec.of("image", (3, 32, 32), classes=2, class_names=("a", "b")),
        ConditionSpec("tokens", 100, (16,), null=0),
        ConditionSpec("image", shape=(3, 8, 8)),
    ],
)
def test_json_there_and_back(spec: DataSpec | ConditionSpec) -> None:
    assert type(spec).from_json(json.loads(json.dumps(spec.to_json()))) == spec


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataSpec.of("image", ()),
        lambda: DataSpec.of("image", (1, 0)),
        lambda: DataSpec.of("image", (1,), low=1.0, high=1.0),
        lambda: DataSpec.of("image", (1,), classes=2, class_names=("a",)),
        lambda: ConditionSpec("class"),
    ],
)
def test_impossible_specs(make: object) -> None:
    with pytest.raises(CallError):
        make()  # type: ignore[operator]


def test_conditions_are_repeated_and_checked() -> None:
    label = ConditionSpec.label(10, null=10)
    assert label.check("label", 3, 2).tolist() == [3, 3]
    assert label.check("label", [10.0, 2.0], 2).tolist() == [10, 2]
    assert label.check("label", 3, 2).dtype == np.int64
    for wrong in (11, -1, 0.5, np.nan, "a", None, [1, 2, 3], 1j):
        with pytest.raises(CallError):
            label.check("label", wrong, 2)
    picture = ConditionSpec("image", shape=(1, 2, 2))
    assert picture.check("p", np.zeros((1, 2, 2)), 3).shape == (3, 1, 2, 2)
    with pytest.raises(CallError, match=r"\(3, 1, 2, 2\)"):
        picture.check("p", np.zeros((3, 2, 2)), 3)


def test_defaults_follow_the_sample_index() -> None:
    specs = {"label": ConditionSpec.label(3), "text": ConditionSpec("tokens", 9, (2,), null=8)}
    rows = resolve(specs, None, 4, 4)
    assert rows["label"].tolist() == [1, 2, 0, 1]
    assert rows["text"].tolist() == [[8, 8]] * 4
    assert resolve(specs, {"label": 2}, 0, 2)["label"].tolist() == [2, 2]
    blank = ConditionSpec("image", shape=(2,), null=0).default(0, 3)
    assert blank is not None
    assert blank.dtype == np.float32


def test_what_must_be_given_is_asked_for() -> None:
    with pytest.raises(CallError, match="'picture' must be given"):
        resolve({"picture": ConditionSpec("image", shape=(2,))}, None, 0, 1)
    with pytest.raises(CallError, match="takes no condition"):
        resolve({}, 3, 0, 1)
    with pytest.raises(CallError, match="name them: a, b"):
        resolve({"a": ConditionSpec.label(2), "b": ConditionSpec.label(2)}, 1, 0, 1)


def test_nearest_names() -> None:
    assert nearest("dgits", ["digits", "glyphs"]) == "did you mean 'digits'?"
    assert nearest("xxxx", ["digits", "glyphs"]) == "valid names: digits, glyphs"
    assert nearest("x", []) == "nothing is registered"

"""Specs: values to pictures, conditions checked, JSON there and back."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.specs import ConditionSpec, DataSpec, Levels, Real, Tokens, ValueSpec, place_of, resolve

PICTURE = ConditionSpec(ValueSpec("image", (1, 2, 2)))


def test_sixteen_levels_come_back_from_the_model_range() -> None:
    spec = DataSpec.of("image", (1, 1, 17), levels=17)
    x = -1 + 2 * np.arange(17) / 16
    np.testing.assert_array_equal(spec.to_uint8(x), np.floor(np.arange(17) / 16 * 255 + 0.5))
    np.testing.assert_array_equal(spec.to_uint8(np.array([-9.0, 9.0])), [0, 255])
    assert spec.size == 17


SPECS = [
    ValueSpec("image", (3, 32, 32)),
    ValueSpec("series", (4, 24), values=Real(-math.inf, math.inf), rate=12.5, names=("a", "b", "c", "d")),
    ValueSpec("vector", (), "", Real(0.0, math.inf)),
    ValueSpec("text", (16,), values=Tokens(100, "tokenizer.json")),
    ValueSpec("image", (1, 8, 8), values=Levels(17, 0.0, 1.0)),
    ValueSpec.label(2, ("a", "b")),
    ConditionSpec.label(3, ("a", "b", "c"), null=3),
    ConditionSpec(ValueSpec("text", (16,), values=Tokens(100)), null=0),
    ConditionSpec(ValueSpec("vector", (4,), values=Real(-math.inf, math.inf))),
    DataSpec.of("image", (3, 32, 32), classes=2, class_names=("a", "b")),
    DataSpec.of("text", (64,), levels=50),
    DataSpec({"x": ValueSpec("image", (1, 8, 8)), "bold": ValueSpec("image", (1, 8, 8))}, ("bold",)),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_json_there_and_back(spec: ValueSpec | DataSpec | ConditionSpec) -> None:
    """Through strict JSON, which knows no infinity."""
    text = json.dumps(spec.to_json(), allow_nan=False)
    again = type(spec).from_json(json.loads(text))
    assert again == spec
    assert hash(again) == hash(spec)
    assert json.dumps(again.to_json()) == text


def test_infinite_bounds_come_back_infinite() -> None:
    spec = ValueSpec.from_json(json.loads(json.dumps(SPECS[1].to_json(), allow_nan=False)))
    assert (spec.low, spec.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataSpec.of("image", ()),
        lambda: DataSpec.of("image", (1, 0)),
        lambda: DataSpec.of("image", (1,), low=1.0, high=1.0),
        lambda: DataSpec.of("image", (1,), classes=2, class_names=("a",)),
        lambda: DataSpec({"picture": ValueSpec("image", (1, 8, 8))}),
        lambda: DataSpec({"x": ValueSpec("image", (1, 8, 8))}, ("bold",)),
        lambda: ValueSpec("image", (1, 8, 8), "HW"),
        lambda: ValueSpec("label", values=Tokens(2), names=("a",)),
        lambda: ConditionSpec.label(0),
        lambda: Levels(1),
        lambda: Real(math.nan, 1.0),
    ],
)
def test_impossible_specs(make: object) -> None:
    with pytest.raises(CallError):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("modality", "shape", "axes"),
    [
        ("image", (3, 8, 8), "CHW"),
        ("series", (24,), "T"),
        ("series", (4, 24), "CT"),
        ("video", (5, 3, 8, 8), "TCHW"),
        ("text", (64,), "T"),
        ("vector", (7,), "C"),
        ("vector", (), ""),
        ("mask", (8, 8), "HW"),
        ("spectrum", (2, 3), "??"),
    ],
)
def test_the_usual_axes_of_a_modality(modality: str, shape: tuple[int, ...], axes: str) -> None:
    spec = ValueSpec(modality, shape)
    assert spec.axes == axes
    assert [spec.axis(letter) for letter in axes if letter != "?"] == list(range(len(axes.replace("?", ""))))
    assert spec.axis("Z") is None


def test_the_data_of_the_first_edition() -> None:
    """`levels` counted for pictures and texts alone; it stood beside amounts too, and meant nothing."""
    old = {"modality": "image", "shape": [1, 8, 8], "low": -1.0, "high": 1.0, "levels": 17, "classes": 2}
    assert DataSpec.from_json({**old, "class_names": ["a", "b"]}) == DataSpec.of(
        "image", (1, 8, 8), levels=17, classes=2, class_names=("a", "b")
    )
    vector = {**old, "modality": "vector", "shape": [4], "levels": 256, "classes": 0, "class_names": []}
    assert DataSpec.from_json(vector).values == Real(-1.0, 1.0)
    text = {**vector, "modality": "text", "levels": 50}
    assert DataSpec.from_json(text).values == Tokens(50, "tokenizer.json")


def test_the_conditions_of_the_first_edition() -> None:
    label = {"kind": "class", "size": 3, "shape": [], "null": None}
    assert ConditionSpec.from_json(label) == ConditionSpec.label(3)
    assert ConditionSpec.from_json({**label, "null": 3}) == ConditionSpec.label(3, null=3)
    tokens = ConditionSpec.from_json({"kind": "tokens", "size": 9, "shape": [4], "null": 0})
    assert (tokens.size, tokens.shape, tokens.null, tokens.integer) == (9, (4,), 0, True)
    image = ConditionSpec.from_json({"kind": "image", "size": 0, "shape": [3, 8, 8], "null": None})
    assert (image.value.axes, image.integer, image.null) == ("CHW", False, None)


def test_conditions_are_repeated_and_checked() -> None:
    label = ConditionSpec.label(10, null=10)
    assert label.check("label", 3, 2).tolist() == [3, 3]
    assert label.check("label", [10.0, 2.0], 2).tolist() == [10, 2]
    assert label.check("label", 3, 2).dtype == np.int64
    for wrong in (11, -1, 0.5, np.nan, "a", None, [1, 2, 3], 1j):
        with pytest.raises(CallError):
            label.check("label", wrong, 2)
    assert label.check("label", 3, 1).flags.writeable, "torch takes no array that it may not write to"
    picture = PICTURE
    assert picture.check("p", np.zeros((1, 2, 2)), 3).shape == (3, 1, 2, 2)
    with pytest.raises(CallError, match=r"\(3, 1, 2, 2\)"):
        picture.check("p", np.zeros((3, 2, 2)), 3)


def test_a_class_may_be_asked_for_by_its_name() -> None:
    label = ConditionSpec.label(3, ("cat", "dog", "bird"), null=3)
    assert label.check("class", "dog", 2).tolist() == [1, 1]
    assert label.check("class", ["bird", 0, "2"], 3).tolist() == [2, 0, 2]
    assert label.check("class", ("cat", "cat"), 2).dtype == np.int64
    with pytest.raises(CallError, match="no class 'dgo'; did you mean 'dog'"):
        label.check("class", "dgo", 1)
    with pytest.raises(CallError, match="value 7, outside 0 … 2"):
        label.check("class", "7", 1)
    with pytest.raises(CallError, match="'cat' is no class; give a number from 0 to 2"):
        ConditionSpec.label(3).check("class", "cat", 1)
    with pytest.raises(CallError, match=r"numbers of the shape \(1, 2, 2\), not text"):
        PICTURE.check("picture", "cat", 1)


def test_defaults_follow_the_sample_index() -> None:
    caption = ConditionSpec(ValueSpec("text", (2,), values=Tokens(9)), null=8)
    specs = {"label": ConditionSpec.label(3), "text": caption}
    rows = resolve(specs, None, 4, 4)
    assert rows["label"].tolist() == [1, 2, 0, 1]
    assert rows["text"].tolist() == [[8, 8]] * 4
    assert rows["text"].dtype == np.int64
    assert resolve(specs, {"label": 2}, 0, 2)["label"].tolist() == [2, 2]
    blank = ConditionSpec(ValueSpec("vector", (2,)), null=0).default(0, 3)
    assert blank is not None
    assert blank.dtype == np.float32


def test_what_must_be_given_is_asked_for() -> None:
    with pytest.raises(CallError, match="'picture' must be given"):
        resolve({"picture": PICTURE}, None, 0, 1)
    with pytest.raises(CallError, match="takes no condition"):
        resolve({}, 3, 0, 1)
    with pytest.raises(CallError, match="name them: a, b"):
        resolve({"a": ConditionSpec.label(2), "b": ConditionSpec.label(2)}, 1, 0, 1)


def test_nearest_names() -> None:
    assert nearest("dgits", ["digits", "glyphs"]) == "did you mean 'digits'?"
    assert nearest("xxxx", ["digits", "glyphs"]) == "valid names: digits, glyphs"
    assert nearest("x", []) == "nothing is registered"
    assert (
        nearest("digi", ["digits", "glyphs"]) == "did you mean 'digits'?"
    )  # a beginning, whatever its length
    assert nearest("lr", ["learning", "log_every"]) == "valid names: learning, log_every"
    # Half of the letters in the same order is no slip of the fingers.
    for wrong, known in (("frecall", "frechet"), ("quality", "fidelity"), ("sharpness", "marginals")):
        assert nearest(wrong, [known]) == f"valid names: {known}"
    for wrong, known in (
        ("fidelty", "fidelity"),
        ("learning_rate", "learningrate"),
        ("coverage", "clipped_coverage"),
    ):
        assert nearest(wrong, [known]) == f"did you mean '{known}'?"


@pytest.mark.parametrize(
    ("names", "text", "place"),
    [
        (("ant", "bee"), "bee", 1), (("ant", "bee"), "1", 1), (("ant", "bee"), "-1", -1),
        (("ant", "bee"), "01", None),
        ((), "3", 3), ((), "x", None), (("1", "2"), "1", 0), (("1", "2"), "0", None), (("1", "2"), "2", 1),
        (("a", "7"), "0", None), (("²", "b"), "0", 0), (("ant",), "Ant", None),
    ],
)  # fmt: skip
def test_a_text_means_one_class(names: tuple[str, ...], text: str, place: int | None) -> None:
    assert place_of(text, names) == place


def test_what_names_no_class_is_refused() -> None:
    spec = ConditionSpec.label(3, ("1", "2", "3"))
    assert spec.check("class", "1", 2).tolist() == [0, 0]
    assert spec.check("class", 1, 2).tolist() == [1, 1], "an integer is a position"
    with pytest.raises(CallError, match="there is no class '0'"):
        spec.check("class", "0", 2)

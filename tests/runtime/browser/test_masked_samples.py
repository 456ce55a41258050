"""Masks in JavaScript: every order of places, prompts and guidance set the tokens of `niwaki_runtime`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from runtime.browser.node import needs_library, refusal
from runtime.browser.test_samples import LOAD, at, in_javascript, in_python, saved
from runtime.small_graphs import graph, weight

from niwaki_runtime.manifest import GraphEntry, InputEntry, Manifest
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers import Masked
from niwaki_runtime.specs import ConditionSpec, Tokens, ValueSpec

pytestmark = needs_library
LENGTH, SIZE, WIDTH, CLASSES = 12, 7, 6, 3


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """logits = tanh(table[token] + places + mean of the others + question) W"""
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["e"]),
        helper.make_node("ReduceMean", ["e", "one"], ["known"], keepdims=1),
        helper.make_node("Gather", ["questions", "label"], ["q"]),
        helper.make_node("Unsqueeze", ["q", "one"], ["question"]),
        helper.make_node("Add", ["e", "places"], ["a"]),
        helper.make_node("Add", ["a", "known"], ["b"]),
        helper.make_node("Add", ["b", "question"], ["c"]),
        helper.make_node("Tanh", ["c"], ["h"]),
        helper.make_node("MatMul", ["h", "w"], ["logits"]),
    ]
    model = graph(
        nodes,
        {"tokens": (TensorProto.INT64, ["n", LENGTH]), "label": (TensorProto.INT64, ["n"])},
        {"logits": ["n", LENGTH, SIZE]},
        {
            "table": weight("table", SIZE + 1, WIDTH),
            "places": weight("places", LENGTH, WIDTH)[None],
            "questions": weight("questions", CLASSES + 1, WIDTH),
            "w": 3 * weight("w", WIDTH, SIZE),
            "one": np.array([1], np.int64),
        },
    )
    given = (InputEntry("tokens", (1, LENGTH), "int64"), InputEntry("label", (1,), "int64"))
    entry = GraphEntry("p.onnx", "prior", given, ("logits",))
    text = ValueSpec("text", (LENGTH,), "T", Tokens(SIZE))
    label = ConditionSpec(ValueSpec("label", (), "", Tokens(CLASSES)), CLASSES)
    common: dict[str, Any] = {
        "length": LENGTH, "mask": SIZE, "steps": 5, "conditions": ("label",), "null": {"label": CLASSES},
        "grid": (3, 4),
    }  # fmt: skip
    programs = {
        "sample": Program(Masked(**common), {"label": label}, text),
        "fill": Program(
            Masked(**common, prompt="prompt"),
            {"label": label, "prompt": ConditionSpec(ValueSpec("text", (LENGTH,), "T", Tokens(SIZE)), -1)},
            text,
        ),
    }
    folder = tmp_path_factory.mktemp("masks") / "m"
    return saved(folder, Manifest("masks", "0", programs, {"predictor": entry}), {"p.onnx": model})


def test_every_order_sets_the_same_tokens(masks: Path) -> None:
    known = [[0, -1, 2, *[-1] * 8, 6], [-1] * LENGTH, [3] * LENGTH]
    asked: list[dict[str, Any]] = [
        {"order": order, "schedule": schedule, "steps": steps}
        for order in ("independent", "random", "halton", "confidence")
        for schedule, steps in (("linear", 5), ("cosine", 4), ("linear", 20))
    ]
    asked += [
        {"guidance": 2.0, "order": "confidence", "spread": 1.0},
        {"guidance": 0.5, "start": 10**9},
        {"temperature": 0.0, "order": "halton"},
        {"temperature": 0.7, "top_k": 3, "top_p": 0.9, "min_p": 0.05},
    ]
    calls = [("sample", 6, {"seed": k, **options}) for k, options in enumerate(asked)]
    calls += [
        ("fill", 3, {"seed": k, "inputs": {"prompt": known}, **options}) for k, options in enumerate(asked)
    ]
    for call, made, wanted in zip(calls, in_javascript(masks, *calls), in_python(masks, *calls), strict=True):
        np.testing.assert_array_equal(made, wanted, err_msg=str(call))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("order: 'alphabetical'", "places are set in the order independent, random, halton or confidence"),
        ("schedule: 'square'", "the schedule of masks is linear or cosine, not 'square'"),
        ("order: 'halton', grid: [2, 4]", "a grid of (2, 4) has not the 12 places of the order 'halton'"),
        ("steps: 0", "length and steps must be at least 1, not 12 and 0"),
        ("spread: -1", "the spread of confidences must not be negative"),
        ("top_p: 0", "top_p must lie in (0, 1]"),
        ("min_p: 2", "min_p must lie in [0, 1], not 2"),
        ("guidance: 2, null: {}", "guidance needs a condition with a null value"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_sentence(masks: Path, options: str, said: str) -> None:
    name, message = refusal(f"{LOAD} await bundle.sample(1, {{ {options} }})", str(masks), at())
    assert name == "CallError"
    assert said in message

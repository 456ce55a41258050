"""Values of files and calls against the types that dataclasses declare."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.field_types import check_fields, fits
from niwaki_runtime.heads import head_from_json
from niwaki_runtime.process import process_from_json
from niwaki_runtime.samplers import Diffusion, OneShot, sampler_from_json
from niwaki_runtime.specs import ConditionSpec, DataSpec, ValueSpec

GOOD = {"modality": "image", "shape": [1, 8, 8], "axes": "CHW", "values": {"kind": "levels"}}


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        (3, int),
        (3, float),
        (np.int64(3), int),
        (np.float32(0.5), float),
        ("x", str),
        (False, bool),
        (None, int | None),
        ([1, 2], tuple[int, ...]),
        ((), tuple[str, ...]),
        ({"a": 1}, dict[str, int]),
        ((1, "a"), tuple[int, str]),
    ],
)
def test_what_fits(value: Any, declared: Any) -> None:
    assert fits(value, declared)


@pytest.mark.parametrize(
    ("value", "declared"),
    [
        (True, int),
        (True, float),
        (3.0, int),
        ("3", int),
        ("3", float),
        (None, int),
        (3, str),
        ("ab", tuple[str, ...]),
        ([1, None], tuple[int, ...]),
        ([1.5], tuple[int, ...]),
        ({"a": "b"}, dict[str, int]),
        ([], dict[str, int]),
        (1, bool),
        ((1,), tuple[int, str]),
    ],
)
def test_what_does_not(value: Any, declared: Any) -> None:
    assert not fits(value, declared)


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "one_shot", "latent": 8},
        {"kind": "one_shot", "latent": [4, None]},
        {"kind": "one_shot", "latent": [0]},
        {"kind": "one_shot", "latent": [1 << 40]},
        {"kind": "one_shot", "conditions": "class"},
        {"kind": "diffusion", "steps": "10"},
        {"kind": "diffusion", "steps": True},
        {"kind": "diffusion", "process": 3},
        {"kind": "diffusion", "null": {"class": "x"}},
        {"kind": [1]},
        {"kind": "cascade", "legs": [3]},
        [],
        None,
        "x",
        {"kind": "diffusion", "process": {"kind": "vp", "train_steps": []}},
    ],
)
def test_a_sampler_in_a_damaged_file_is_refused_in_a_sentence(record: Any) -> None:
    with pytest.raises(CallError) as refusal:
        sampler_from_json(record)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": 3},
        {"shape": [1, 8, None]},
        {"shape": [1.5, 8, 8]},
        {"shape": None},
        {"modality": 4},
        {"axes": 3},
        {"values": 3},
        {"values": {"kind": "tokens"}},
        {"values": {"kind": "levels", "n": "x"}},
        {"values": {}},
        {"values": {"kind": "real", "low": [], "high": 1}},
        {"rate": "fast"},
        {"names": "ab"},
    ],
)
def test_a_value_in_a_damaged_file_is_refused_in_a_sentence(change: dict[str, Any]) -> None:
    assert ValueSpec.from_json(GOOD).shape == (1, 8, 8)
    for read, record in (
        (ValueSpec.from_json, {**GOOD, **change}),
        (ConditionSpec.from_json, {"value": {**GOOD, **change}, "null": None}),
        (DataSpec.from_json, {"columns": {"x": {**GOOD, **change}}}),
    ):
        with pytest.raises(CallError):
            read(record)


@pytest.mark.parametrize("record", [None, 3, [], "x", {}, {"kind": None}])
def test_processes_heads_and_specs_that_are_no_tables_are_refused(record: Any) -> None:
    for read in (process_from_json, head_from_json, ValueSpec.from_json, DataSpec.from_json):
        with pytest.raises(CallError):
            read(record)


@pytest.mark.parametrize("value", ["10", 2.5, None, True, [3]])
def test_a_call_with_the_wrong_type_is_told_which_option(value: Any) -> None:
    with pytest.raises(CallError, match=r"'steps' of the sampler 'diffusion' must be a whole number"):
        Diffusion().override(steps=value)


def test_whole_numbers_of_other_libraries_are_whole_numbers() -> None:
    assert Diffusion().override(steps=np.int64(3)).steps == 3
    assert OneShot().override(temperature=1).temperature == 1
    check_fields(OneShot, {"unknown": object()}, "a sampler")  # left to whoever reads it

from __future__ import annotations

import pytest

from niwaki.core.contract import CallError
from niwaki.recipe import apply_overrides, parse_override


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("train.steps=100", ("train", "steps"), 100),
        ("train.lr=1e-3", ("train", "lr"), 1e-3),
        ("train.lr={generator: 2e-4, critic: 1e-4}", ("train", "lr"), {"generator": 2e-4, "critic": 1e-4}),
        ("name=a=b", ("name",), "a=b"),
        ("compress=null", ("compress",), None),
        ("data.path=", ("data", "path"), None),
        ("evaluate.features=[random]", ("evaluate", "features"), ["random"]),
    ],
)
def test_values_are_yaml(text: str, path: tuple[str, ...], value: object) -> None:
    assert parse_override(text) == (path, value)


@pytest.mark.parametrize("text", ["train.steps", "=3", "train..steps=1", ".a=1", "a.=1"])
def test_what_is_no_override_is_said(text: str) -> None:
    with pytest.raises(CallError, match=r"write section\.key=value"):
        parse_override(text)


def test_overrides_reach_into_mappings_and_lists_and_leave_the_original_alone() -> None:
    values = {
        "train": {"steps": 1, "lr": 1.0},
        "compress": {"steps": [{"kind": "prune", "ratio": 0.5}]},
        "export": None,
    }
    changed = apply_overrides(
        values, ["train.steps=2", "compress.steps.0.ratio=0.25", "export.threads=1", "new.key=3"]
    )
    assert changed == {
        "train": {"steps": 2, "lr": 1.0},
        "compress": {"steps": [{"kind": "prune", "ratio": 0.25}]},
        "export": {"threads": 1},
        "new": {"key": 3},
    }
    assert values["train"]["steps"] == 1
    assert values["compress"]["steps"][0]["ratio"] == 0.5


def test_later_overrides_win() -> None:
    assert apply_overrides({}, ["a.b=1", "a.b=2"]) == {"a": {"b": 2}}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train.steps.more=1", "'train.steps' is a single value, so 'train.steps.more' cannot be set"),
        ("compress.steps.1.ratio=1", "'compress.steps' is a list of 1; write 'compress.steps.0' …"),
        ("compress.steps.first=1", "'compress.steps' is a list of 1"),
    ],
)
def test_a_way_that_leads_nowhere_is_said(text: str, sentence: str) -> None:
    values = {"train": {"steps": 1}, "compress": {"steps": [{"kind": "prune"}]}}
    with pytest.raises(CallError) as error:
        apply_overrides(values, [text])
    assert sentence in str(error.value)

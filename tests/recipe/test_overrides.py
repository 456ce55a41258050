from __future__ import annotations

from pathlib import Path

import pytest

from niwaki.core.contract import CallError
from niwaki.recipe import apply_overrides, load_recipe, parse_override


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
        ("compress.steps.first=1", "'compress.steps' holds prune, and no 'first'; name one of these"),
        ("compress.steps.temperature=null", "'compress.steps' holds prune, and no 'temperature'; "),
        ("train.stages.a.steps=1", "holds several 'a'; name one by its number: 'train.stages.0', 'train"),
        ("train.betas.first=1", "'train.betas' is a list of 2; write 'train.betas.0' …"),
    ],
)
def test_a_way_that_leads_nowhere_is_said(text: str, sentence: str) -> None:
    train = {"steps": 1, "betas": [0.5, 0.9], "stages": [{"name": "a"}, {"name": "a"}]}
    values = {"train": train, "compress": {"steps": [{"kind": "prune"}]}}
    with pytest.raises(CallError) as error:
        apply_overrides(values, [text])
    assert sentence in str(error.value)


PLAN = [{"kind": "prune", "ratio": 0.5}, {"kind": "sampling", "temperature": "match"}, {"kind": "quantize"}]


@pytest.mark.parametrize(
    ("texts", "kinds"),
    [
        (["compress.steps.sampling=null"], ["prune", "quantize"]),
        (["compress.steps.1=null"], ["prune", "quantize"]),
        (["compress.steps.0=null", "compress.steps.2=null"], ["sampling"]),
        (["compress.steps.prune=null", "compress.steps.1.temperature=1.1"], ["sampling", "quantize"]),
        (["compress.steps.prune.ratio=0.3"], ["prune", "sampling", "quantize"]),
        (["compress.steps.prune={kind: share}", "compress.steps.share=null"], ["sampling", "quantize"]),
    ],
)
def test_one_step_of_a_plan_is_changed_or_left_out(texts: list[str], kinds: list[str]) -> None:
    found = apply_overrides({"compress": {"steps": PLAN}}, texts)["compress"]["steps"]
    assert [step["kind"] for step in found] == kinds
    if "compress.steps.prune.ratio=0.3" in texts:
        assert found[0]["ratio"] == 0.3
    assert PLAN[0]["ratio"] == 0.5


def test_a_stage_of_training_goes_by_its_name() -> None:
    values = {"train": {"stages": [{"name": "codec", "steps": 1}, {"name": "prior", "steps": 2}]}}
    found = apply_overrides(values, ["train.stages.prior.steps=9", "train.stages.codec.lr=0.1"])
    assert found["train"]["stages"] == [
        {"name": "codec", "steps": 1, "lr": 0.1},
        {"name": "prior", "steps": 9},
    ]


def test_a_step_of_the_usual_plan_is_changed_where_none_is_written(tmp_path: Path) -> None:
    file = tmp_path / "usual.yaml"
    file.write_text(
        "data: {source: digits}\nmodel: {name: dcgan}\ntrain: {steps: 1}\ncompress: {measure: false}\n"
    )
    plan = load_recipe(file, ["compress.steps.prune.ratio=0.3", "compress.steps.finetune=null"]).compress
    assert plan is not None
    assert [step.kind for step in plan.steps] == ["prune", "sampling", "quantize"]
    assert plan.steps[0].ratio == 0.3  # type: ignore[union-attr]

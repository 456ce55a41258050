"""Recipes in Python, and what is changed in them: mappings and typed configs, read as YAML would be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import niwaki
from niwaki.api.evaluate import evaluate
from niwaki.api.export import export
from niwaki.api.run import run
from niwaki.api.train import train
from niwaki.compression import FinetuneConfig, PruneConfig, QuantizeConfig
from niwaki.core.contract import CallError
from niwaki.recipe import apply_overrides, load_recipe, parse_overrides
from niwaki.workflow.context import context_for
from niwaki.workflow.doctor import doctor

RECIPE: dict[str, Any] = {
    "data": {"source": "digits"},
    "model": {"name": "dcgan", "width": 16},
    "train": {"steps": 8, "batch": 32, "lr": 1e-3},
    "compress": {"steps": [{"kind": "prune", "ratio": 0.5}, {"kind": "quantize"}]},
}
RATES = {"generator": 1e-4, "discriminator": 2e-4}
TYPED: dict[str, Any] = {
    "data": niwaki.DataConfig(source="digits"),
    "model": {"name": "dcgan", "width": np.int64(16)},
    "train": niwaki.TrainConfig(steps=8, batch=32, lr=1e-3),
    "evaluate": niwaki.EvaluateConfig(),
    "compress": niwaki.CompressConfig(steps=(PruneConfig(ratio=0.5), QuantizeConfig())),
    "export": niwaki.ExportConfig(),
}


def written(tmp_path: Path) -> Path:
    (tmp_path / "dcgan.yaml").write_text(
        "data: {source: digits}\nmodel: {name: dcgan, width: 16}\ntrain: {steps: 8, batch: 32, lr: 1e-3}\n"
        "compress: {steps: [{kind: prune, ratio: 0.5}, {kind: quantize}]}\n"
    )
    return tmp_path / "dcgan.yaml"


@pytest.mark.parametrize("given", [RECIPE, TYPED], ids=["plain", "typed"])
def test_a_mapping_is_read_as_the_file_would_be(given: dict[str, Any], tmp_path: Path) -> None:
    of_file = load_recipe(written(tmp_path))
    assert load_recipe(given) == of_file
    assert load_recipe(of_file) is of_file
    changed = load_recipe(of_file, ["train.steps=9"])
    assert changed.train is not None
    assert changed.train.steps == 9, "a recipe in memory is changed, too"


@pytest.mark.parametrize(
    ("texts", "mapping"),
    [
        (["train.steps=700"], {"train.steps": 700}),
        (["train.steps=700"], {"train": {"steps": 700}}),
        (["train.steps=700", "seed=3"], {"train": {"steps": 700}, "seed": 3}),
        (["train.lr={generator: 1e-4, discriminator: 2e-4}"], {"train.lr": RATES}),
        (["train.lr={generator: 1e-4, discriminator: 2e-4}"], {"train": {"lr": RATES}}),
        (["compress.steps.prune.ratio=0.3"], {"compress": {"steps": {"prune": {"ratio": 0.3}}}}),
        (["compress.steps.0.ratio=0.3"], {"compress": {"steps": {0: {"ratio": 0.3}}}}),
        (["compress.steps.prune=null"], {"compress": {"steps": {"prune": None}}}),
        (["compress=null"], {"compress": None}),
        (["compress.steps=[{kind: quantize}]"], {"compress": {"steps": [QuantizeConfig()]}}),
        (["model.sampling={}"], {"model": {"sampling": {}}}),
        (["evaluate.features=[random]"], {"evaluate": {"features": ("random",)}}),
        (["export={threads: 1}"], {"export": niwaki.ExportConfig(threads=1)}),
        (["evaluate.n=50", "evaluate.n=60"], ["evaluate.n=50", *parse_overrides({"evaluate.n": 60})]),
    ],
)  # fmt: skip
def test_a_mapping_changes_what_the_texts_would(texts: list[str], mapping: Any) -> None:
    assert load_recipe(RECIPE, mapping) == load_recipe(RECIPE, texts)
    assert RECIPE["train"]["steps"] == 8, "the mapping that was given stays as it is"


def test_a_section_changes_what_it_names_and_a_dotted_name_all() -> None:
    values = {"model": {"sampling": {"solver": "ddim", "steps": 30}}}
    within = apply_overrides(values, {"model": {"sampling": {"steps": 10}}})
    assert within == {"model": {"sampling": {"solver": "ddim", "steps": 10}}}
    whole = apply_overrides(values, {"model.sampling": {"steps": 10}})
    assert whole == {"model": {"sampling": {"steps": 10}}}


def test_single_steps_of_the_usual_plan_are_changed_in_python_too() -> None:
    recipe = load_recipe({**RECIPE, "compress": {}}, {"compress": {"steps": {"prune": {"ratio": 0.3}}}})
    assert recipe.compress is not None
    assert [step.kind for step in recipe.compress.steps] == ["prune", "finetune", "sampling", "quantize"]
    assert recipe.compress.steps[0] == PruneConfig(ratio=0.3)
    assert recipe.compress.steps[1] == FinetuneConfig()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"train": {"stepz": 5}}, "the recipe has no setting 'train.stepz'; did you mean 'steps'?"),
        ({"train.steps": "many"}, "'train.steps' must be a whole number, not 'many'"),
        ({"train": {"steps": True}}, "'train.steps' must be a whole number, not true"),
        ({"train": {"lr": float("inf")}}, "'train.lr'"),
        ({"tran": {"steps": 5}}, "the recipe has no setting 'tran'"),
        ({"compress": {"steps": {"sampling": None}}}, "holds prune, quantize, and no 'sampling'"),
        ({"train..steps": 5}, "'train..steps' is no name of a setting"),
        ([5], "5 is not an override; write 'train.steps=100', or give a mapping"),
        ("train.steps", "'train.steps' is not an override; write section.key=value"),
        ({"data": {"source": "digit"}}, "did you mean 'digits'?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_as_of_a_file(changes: Any, sentence: str) -> None:
    with pytest.raises(CallError) as error:
        load_recipe(RECIPE, changes)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("verb", [run, train, evaluate, export, doctor])
def test_every_verb_reads_a_mapping_and_refuses_it_by_the_same_sentence(verb: Any) -> None:
    with pytest.raises(CallError, match=r"no setting 'train\.stepz'; did you mean 'steps'"):
        verb({**RECIPE, "train": {"stepz": 5}})
    with pytest.raises(CallError, match=r"no setting 'train\.stepz'; did you mean 'steps'"):
        verb(RECIPE, {"train": {"stepz": 5}})


@pytest.mark.parametrize("what", [5, None, ["train"]])
def test_what_is_no_recipe_is_said(what: Any) -> None:
    with pytest.raises(CallError, match="a recipe is a file, a name, a mapping of sections or a Recipe"):
        load_recipe(what)


def test_data_are_named_by_a_section_a_recipe_or_a_config() -> None:
    for where in ({"source": "digits"}, niwaki.DataConfig(source="digits"), RECIPE, load_recipe(RECIPE)):
        assert context_for(where, {"evaluate": {"n": 70}}).n == 70
    with pytest.raises(CallError, match="did you mean 'digits'"):
        context_for({"source": "digit"})
    with pytest.raises(CallError, match=r"no setting 'evaluate\.m'; valid names: features"):
        context_for(context_for({"source": "digits"}).dataset, ["evaluate.m=70"])


def test_the_configs_are_there_when_they_are_asked_for_and_cost_nothing_before() -> None:
    import subprocess

    for name in ("TrainConfig", "DataConfig", "CompressConfig", "EvaluateConfig", "ExportConfig", "Recipe"):
        assert getattr(niwaki, name).__name__ == name
        assert name in dir(niwaki)
    code = "import sys, niwaki; assert not {'torch', 'pydantic', 'yaml', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

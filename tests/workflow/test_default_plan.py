"""One plan where nobody says otherwise: in Python, on the command line, in a recipe, for every family."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

import niwaki
from niwaki.cli.main import status
from niwaki.compression import CompressConfig
from niwaki.compression.distillation.temperature import has_temperature
from niwaki.compression.steps import StepContext, step_of
from niwaki.core.contract import CallError, GenerativeModel
from niwaki.core.errors import NothingToDo
from niwaki.data import DataConfig, load
from niwaki.models import build, save_model
from niwaki.recipe import Recipe, load_recipe

MODELS: dict[str, dict[str, Any]] = {
    "dcgan": {"latent": 8, "width": 8, "max_width": 16},
    "vae": {"latent": 6, "width": 8},
    "ddpm": {"widths": (16, 32), "blocks": 1},
    "edm": {"widths": (16, 32), "blocks": 1},
    "realnvp": {"layers": 2, "width": 16},
    "flow-matching": {"widths": (16, 32), "blocks": 1},
    "vqvae": {"prior_width": 16, "prior_heads": 2, "prior_layers": 1, "width": 8},
}


@pytest.fixture(scope="module")
def digits() -> Any:
    return load(DataConfig(source="digits"))


def made(name: str, digits: Any) -> GenerativeModel:
    torch.manual_seed(0)
    return build(name, MODELS[name], digits.spec).eval()


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """Those that `compress` would carry out."""
    found: list[Recipe] = []

    def remember(run: Any) -> dict[str, Any]:
        found.append(run.recipe)
        return {}

    monkeypatch.setattr(importlib.import_module("niwaki.api.compress"), "_to_the_end", remember)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_python_and_the_command_line_plan_the_same(
    name: str, digits: Any, recipes: list[Recipe], tmp_path: Path
) -> None:
    model = made(name, digits)
    save_model(model, tmp_path / "model")
    niwaki.compress(model, data="digits", out=tmp_path / "memory" / "run")
    niwaki.compress(tmp_path / "model", data="digits", out=tmp_path / "python" / "run")
    words = (
        "compress",
        tmp_path / "model",
        "--data",
        "digits",
        "--out",
        tmp_path / "shell" / "run",
        "--json",
    )
    assert status([str(w) for w in words]) == 0
    assert len(recipes) == 3
    assert recipes[0] == recipes[1] == recipes[2]
    assert recipes[0].compress == CompressConfig()


def test_recipes_that_write_none_out_have_it_too(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("data: {source: digits}\nmodel: {name: dcgan}\ntrain: {steps: 5}\ncompress: {}\n")
    assert load_recipe(file).compress == CompressConfig()
    changed = load_recipe(file, ["compress.steps.prune.ratio=0.25", "compress.steps.sampling=null"]).compress
    assert changed is not None
    assert [step.kind for step in changed.steps] == ["prune", "finetune", "quantize"]


TOKENS: dict[str, Any] = {"codes": 64, "dim": 3, "codebook": "levelled"}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ddpm", {}),
        ("edm", {}),
        ("flow-matching", {}),
        ("vqvae", {}),
        ("vqvae", {**MODELS["vqvae"], **TOKENS}),
    ],
)
def test_a_model_without_a_temperature_is_left_as_it_is_by_that_step(
    name: str, changes: dict[str, Any], digits: Any, tmp_path: Path
) -> None:
    model = build(name, changes or MODELS[name], digits.spec).eval()
    (step,) = [step for step in CompressConfig().steps if step.kind == "sampling"]
    context = StepContext(model, None, 0, tmp_path, None, lambda done, total, info: None)
    with pytest.raises(NothingToDo, match=f"'{name}' is no generator of one noise, so it has no temperature"):
        step_of("sampling").carry_out(model, step, context)
    assert not has_temperature(model)


@pytest.mark.parametrize("name", ["dcgan", "vae", "realnvp"])
def test_a_model_of_one_noise_has_one(name: str, digits: Any) -> None:
    assert has_temperature(made(name, digits))


@pytest.mark.parametrize(
    "given",
    [
        {"data": "digits"},
        {"out": "elsewhere"},
        {"weights": "w.safetensors"},
        {"n": 500},
        {"seed": 1},
        {"features": ["random"]},
        {"engine": "onnxruntime"},
        {"memory": "32MB"},
        {"rounds": 3},
    ],
)
def test_what_a_run_says_in_its_recipe_is_not_taken_beside_it(given: dict[str, Any]) -> None:
    with pytest.raises(CallError, match=r"is for a model of no run; .* section\.key=value"):
        niwaki.compress("recipes/digits-gan.yaml", **given)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ([{"kind": "prun"}], "prune"),
        ([{"kind": "prune", "ratioo": 0.5}], "did you mean 'ratio'"),
        ([{"kind": "prune", "ratio": "half"}], "ratio"),
        ([{"ratio": 0.5}], "kind"),
        (["prune"], "compress.steps"),
    ],
)
def test_a_wrong_plan_is_one_sentence(plan: Any, said: str, digits: Any, tmp_path: Path) -> None:
    with pytest.raises(CallError, match=said) as refusal:
        niwaki.compress(made("dcgan", digits), data=digits, out=tmp_path / "out", plan=plan, n=100)
    assert "\n" not in str(refusal.value)

"""The section `tune`, and how ranges are written on the command line."""

from __future__ import annotations

from typing import Any

import pytest

from niwaki.core.contract import CallError
from niwaki.recipe import TuneConfig, dump_recipe, load_recipe, parse_choice, parse_range, value_at
from niwaki.recipe.plain import plain

RECIPE: dict[str, Any] = {
    "name": "toy",
    "data": {"source": "digits"},
    "model": {"name": "vae", "width": 8},
    "train": {"steps": 5, "betas": [0.5, 0.9]},
}


def test_ranges_of_the_command_line() -> None:
    assert parse_range("train.lr=1e-4..1e-2:log") == ("train.lr", {"low": 1e-4, "high": 1e-2, "log": True})
    assert parse_range("model.width=16..64:step=16") == ("model.width", {"low": 16, "high": 64, "step": 16})
    assert parse_choice("model.width=32,48") == ("model.width", [32, 48])
    assert parse_choice("train.betas=[0,0.9],[0.5,0.9]") == ("train.betas", [[0, 0.9], [0.5, 0.9]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train.lr", "is no range"),
        ("train.lr=1e-4", "is no range"),
        ("=1..2", "is no range"),
        ("train.lr=1..2:lin", "ends in ':lin'"),
    ],
)
def test_what_is_no_range(text: str, said: str) -> None:
    with pytest.raises(CallError, match=said):
        parse_range(text)


@pytest.mark.parametrize("text", ["model.width", "model.width=", "=3,4"])
def test_what_is_no_choice(text: str) -> None:
    with pytest.raises(CallError, match="is no choice"):
        parse_choice(text)


@pytest.mark.parametrize(
    ("tune", "said"),
    [
        ({"ranges": {"train.lr": {"low": 1.0, "high": 0.1}}}, "must be below 'high'"),
        ({"ranges": {"train.lr": {"low": 0.0, "high": 0.1, "log": True}}}, "begins above 0"),
        ({"ranges": {"train.lr": {"low": 0.1, "high": 1.0, "log": True, "step": 0.1}}}, "not both"),
        ({"ranges": {"evaluate.n": [100, 200]}}, "does not decide the trained model"),
        ({"ranges": {"seed": [0, 1]}}, "does not decide the trained model"),
        ({"ranges": {"model.width": [8]}}, "less than two values"),
        ({"ranges": {"model.width": 8}}, "a single value"),
        ({"objectives": ["loss", "loss"]}, "different ones"),
        ({"trails": 3}, "did you mean 'trials'"),
    ],
)
def test_what_is_wrong_in_the_section_is_one_sentence(tune: dict[str, Any], said: str) -> None:
    with pytest.raises(CallError, match=said):
        load_recipe({**RECIPE, "tune": tune})


def test_a_recipe_keeps_its_section_and_one_without_has_none() -> None:
    ranges = {"train.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "model.width": [4, 8]}
    recipe = load_recipe({**RECIPE, "tune": {"ranges": ranges}})
    import yaml

    again = load_recipe(yaml.safe_load(dump_recipe(recipe)))
    assert again.tune == recipe.tune
    assert isinstance(again.tune, TuneConfig)
    assert "tune" not in dump_recipe(load_recipe(RECIPE))


def test_the_value_at_a_key() -> None:
    values = plain(load_recipe(RECIPE))
    assert value_at(values, "train.betas.1") == 0.9
    assert value_at(values, "model.width") == 8
    assert value_at(values, "train.losses") == []
    assert value_at({"train": None}, "train.lr") is None

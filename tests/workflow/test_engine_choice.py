"""A recipe's memory chooses the engine that its figures and its verdict are taken on."""

from __future__ import annotations

from typing import Any

import pytest

from niwaki.core.contract import CallError, NiwakiError
from niwaki.recipe import ExportConfig, recipe_from
from niwaki.workflow.engine_choice import engine_beforehand

RECIPE: dict[str, Any] = {
    "data": {"source": "digits"},
    "model": {"name": "dcgan"},
    "train": {"steps": 1},
}


@pytest.mark.parametrize(
    ("export", "engine"),
    [
        ({}, "openvino"),
        ({"engine": "onnxruntime"}, "onnxruntime"),
        ({"engine": "auto"}, "openvino"),
        ({"memory_limit": "1GB"}, "openvino"),
        ({"memory_limit": "32MB"}, "onnxruntime"),
        ({"memory_limit": 32_000_000}, "onnxruntime"),
        ({"engine": "onnxruntime", "memory_limit": "1GB"}, "onnxruntime"),
        ({"engine": "auto", "memory_limit": "20 MiB"}, "onnxruntime"),
    ],
)
def test_the_engine_that_fits(export: dict[str, Any], engine: str) -> None:
    config = recipe_from({**RECIPE, "export": export}).export
    assert engine_beforehand(config) == engine
    assert ExportConfig.model_validate(config.model_dump(mode="json")) == config
    assert ("memory_limit" in config.model_dump()) == ("memory_limit" in export)


@pytest.mark.parametrize(
    ("export", "said"),
    [
        ({"memory_limit": "1kB"}, "any bundle needs about 50 MB in openvino and 13 MB in onnxruntime"),
        ({"engine": "openvino", "memory_limit": "32MB"}, "; engine='onnxruntime' needs less"),
        ({"engine": "onnxruntime", "memory_limit": "5MB"}, "about 13 MB in onnxruntime, more than the 5 MB"),
    ],
)
def test_where_none_fits_it_is_said_what_each_needs(export: dict[str, Any], said: str) -> None:
    with pytest.raises(NiwakiError, match=said):
        engine_beforehand(recipe_from({**RECIPE, "export": export}).export)


@pytest.mark.parametrize("amount", ["much", "-3MB", 0, True, "", "12 apples"])
def test_an_amount_that_is_none_is_refused_with_the_recipe(amount: Any) -> None:
    with pytest.raises(CallError, match="memory"):
        recipe_from({**RECIPE, "export": {"memory_limit": amount}})

"""A wrong setting is told in one sentence, whoever asks: a class that is called, a recipe, a registry."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import Field, ValidationError

import niwaki
from niwaki.compression import PruneConfig
from niwaki.core.base_config import BaseConfig
from niwaki.core.errors import CallError
from niwaki.data import DataConfig
from niwaki.evaluation import EvaluateConfig
from niwaki.models.registry import config_of
from niwaki.training import StageConfig, TrainConfig
from niwaki.uses.base import find_use


class Leaf(BaseConfig):
    size: int = Field(1, ge=1)


class Tree(BaseConfig):
    leaf: Leaf = Leaf()
    many: tuple[Leaf | float, ...] = ()


def use(**given: Any) -> object:
    return find_use("interpolate").options(given)


def model(**given: Any) -> object:
    return config_of("dcgan", given)


@pytest.mark.parametrize(
    ("make", "settings", "sentence"),
    [
        (niwaki.TrainConfig, {"stepz": 1}, "TrainConfig has no setting 'stepz'; did you mean 'steps'?"),
        (TrainConfig, {"steps": "many"}, "'steps' of TrainConfig must be a whole number, not 'many'"),
        (TrainConfig, {"steps": True}, "'steps' of TrainConfig must be a whole number, not true"),
        (StageConfig, {"steps": 1}, "StageConfig needs 'name'"),
        (PruneConfig, {"ratio": 2}, "'ratio' of PruneConfig must be less than 1, not 2"),
        (EvaluateConfig, {"n": 0}, "'n' of EvaluateConfig must be at least 50, not 0"),
        (DataConfig, {"source": "digits", "seed": -1}, "'seed' of DataConfig must be at least 0, not -1"),
        (Tree, {"leaf": {"size": 0}}, "'leaf.size' of Tree must be at least 1, not 0"),
        (Tree, {"leaf": {"sise": 2}}, "Tree has no setting 'leaf.sise'; did you mean 'size'?"),
        (Tree, {"many": [{"size": 0}]}, "'many.0.size' of Tree must be at least 1, not 0"),
        (use, {"stepz": 3}, "'interpolate' has no setting 'stepz'; did you mean 'steps'?"),
        (use, {"steps": 1}, "'steps' of 'interpolate' must be at least 2, not 1"),
        (model, {"widht": 1}, "the model 'dcgan' has no setting 'widht'; did you mean 'width'?"),
        (model, {"width": 0}, "'model.width' of the model 'dcgan' must be at least 1, not 0"),
        (model, {"norm": "bath"}, "'model.norm' of the model 'dcgan' cannot be 'bath'; did you mean"),
    ],
)
def test_the_sentence_names_owner_key_and_the_nearest_name(
    make: Callable[..., object], settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CallError) as caught:
        make(**settings)
    assert str(caught.value).startswith(sentence)
    assert caught.value.__cause__ is None


def test_within_another_config_pydantic_hears_what_is_wrong() -> None:
    """A union goes on to its next member, and an error knows its place in the whole."""
    assert Tree(many=(2.5, Leaf(size=3))).many == (2.5, Leaf(size=3))
    with pytest.raises(ValidationError) as caught:
        Tree.model_validate({"leaf": {"size": 0}})
    assert caught.value.errors()[0]["loc"] == ("leaf", "size")


@pytest.mark.parametrize(
    "config",
    [Tree(many=(1.0, Leaf(size=2))), TrainConfig(steps=7, lr={"a": 1e-3}), DataConfig(source="glyphs")],
    ids=lambda c: type(c).__name__,
)
def test_configs_are_pickled_copied_and_read_again(config: BaseConfig) -> None:
    assert pickle.loads(pickle.dumps(config)) == config
    assert copy.deepcopy(config) == config
    assert type(config).model_validate_json(config.model_dump_json()) == config

"""Combinations that no single section can see are impossible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from niwaki.core.contract import CallError, DataSpec, nearest
from niwaki.features.encoders import encoder_config, encoder_names
from niwaki.models import registry

if TYPE_CHECKING:
    from niwaki.recipe.schema import Recipe

__all__ = ["check_data", "check_model", "model_config"]


def model_config(name: str, values: Mapping[str, Any]) -> registry.ModelConfig:
    """The checked config of a model or of an encoder. Raises CallError with the nearest name of both."""
    encoders = encoder_names()
    if name in encoders:
        return encoder_config(name, values)
    known = registry.names()
    if name not in known:
        raise CallError(f"there is no model '{name}'; {nearest(name, [*known, *encoders])}")
    return registry.config_of(name, values)


def check_model(settings: Mapping[str, Any]) -> None:
    """Settings of a model against each other. Raises CallError for guidance without anything to guide by."""
    if settings.get("guidance", 1.0) in (None, 1.0):
        return
    if settings.get("conditional") is False:
        raise CallError(
            "'model.guidance' needs a condition to guide by; set 'model.conditional' to true or drop it"
        )
    if settings.get("label_drop", 1.0) == 0:
        raise CallError("'model.guidance' needs training without labels too; set 'model.label_drop' above 0")


def check_data(recipe: Recipe, spec: DataSpec) -> None:
    """What only the data can tell. Raises CallError for a model that asks for labels which the data does not
    have."""
    if spec.classes:
        return
    source = f"the data of source '{recipe.data.source}' have no labels"
    if recipe.model.get("conditional"):
        raise CallError(f"'model.conditional' is true, but {source}; set it to false or choose labelled data")
    if recipe.model.get("guidance", 1.0) not in (None, 1.0):
        raise CallError(
            f"'model.guidance' needs a condition to guide by, but {source}; drop it or choose labelled data"
        )

"""Combinations that no single section can see are impossible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from niwaki.core.contract import CallError, DataSpec, nearest
from niwaki.features.encoders import encoder_config, encoder_names
from niwaki.models import registry

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


def check_model(config: Any) -> None:
    """Settings of a model against each other. Raises CallError for guidance without anything to guide by."""
    sampling, conditioning = getattr(config, "sampling", {}), getattr(config, "conditioning", None)
    if sampling.get("guidance", 1.0) in (None, 1.0) or conditioning is None:
        return
    if getattr(config, "weak", None) is not None:  # it guides in the place of nothing asked
        return
    if conditioning.columns == ():
        raise CallError(
            "'model.sampling.guidance' needs a condition to guide by; name one in "
            "'model.conditioning.columns'"
        )
    if conditioning.drop == 0:
        raise CallError(
            "'model.sampling.guidance' needs training without conditions too; set 'model.conditioning.drop' "
            "above 0"
        )


def check_data(recipe: Any, spec: DataSpec) -> None:
    """What only the data can tell of a `Recipe`. Raises CallError for a model that asks for columns which the
    data do not have."""
    asked = (recipe.model.get("conditioning") or {}).get("columns")
    source = f"the data of source '{recipe.data.source}' have"
    for name in asked or ():
        if name not in spec:
            raise CallError(
                f"'model.conditioning' names the column '{name}', but {source} {', '.join(spec)}; "
                "choose one of these, or rename columns with data.columns"
            )
    guided = (recipe.model.get("sampling") or {}).get("guidance", 1.0) not in (None, 1.0)
    if guided and not recipe.model.get("weak") and len(list(spec)) == 1:
        raise CallError(
            f"'model.sampling.guidance' needs a condition to guide by, but {source} only samples; drop it or "
            "choose labelled data"
        )

"""Combinations that no single section can see are impossible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from niwaki.contract import CallError, SampleSpec

if TYPE_CHECKING:
    from niwaki.recipe.schema import Recipe

__all__ = ["check_data", "check_plan"]

_CHANGES_WEIGHTS = ("prune", "finetune", "distill")


def check_plan(kinds: Sequence[str]) -> None:
    """The order of a compression plan. Raises CallError where a step would work on weights that are already integers."""
    if "quantize" not in kinds:
        return
    first = kinds.index("quantize")
    for at, kind in enumerate(kinds[first + 1 :], first + 1):
        if kind in _CHANGES_WEIGHTS:
            raise CallError(
                f"'compress.steps.{at}' is '{kind}', but step {first} has already quantized the weights; "
                f"put 'quantize' last"
            )
        if kind == "quantize":
            raise CallError(f"'compress.steps.{at}' quantizes what step {first} has quantized; keep one of them")


def check_data(recipe: Recipe, spec: SampleSpec) -> None:
    """What only the data can tell. Raises CallError for a model that asks for labels which the data does not have."""
    if spec.classes == 0:
        for key in ("conditional", "classes"):
            if _asked(recipe.model, key):
                raise CallError(
                    f"'model.{key}' is on, but the data of 'data.source: {recipe.data.source}' has no labels; "
                    f"set 'model.{key}' to {'false' if key == 'conditional' else '0'} or choose labelled data"
                )
    if _asked(recipe.model, "guidance") and recipe.model.get("conditional") is False:
        raise CallError("'model.guidance' needs a condition to guide by; set 'model.conditional' to true or drop it")


def _asked(settings: Mapping[str, Any], key: str) -> bool:
    return bool(settings.get(key))

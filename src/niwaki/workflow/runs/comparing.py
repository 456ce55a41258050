"""Runs beside each other: the settings that are not the same in all of them, and their figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from niwaki.core.differences import ABSENT, differences
from niwaki.report.record import read_run
from niwaki.workflow.runs.listing import Line

__all__ = ["settings_that_differ"]


def settings_that_differ(lines: Sequence[Line]) -> dict[str, list[Any]]:
    """Dotted keys of the recipes, and the value of each run; None where a run does not set it.

    Raises NiwakiError where a recipe is broken.
    """
    recipes = [_settings(line.path) for line in lines]
    first, keys = recipes[0], dict[str, list[Any]]()
    for k, recipe in enumerate(recipes[1:], 1):
        for found in differences(first, recipe):
            values = keys.setdefault(found.key, [_value(found.then)] * len(recipes))
            values[k] = _value(found.now)
    return keys


def _settings(path: Path) -> dict[str, Any]:
    """Without its name, which always differs."""
    return {key: value for key, value in read_run(path).recipe.items() if key != "name"}


def _value(value: Any) -> Any:
    return None if value is ABSENT else value

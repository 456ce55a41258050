"""A compression plan in a file of its own, as `niwaki search` leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from niwaki.compression import CompressConfig
from niwaki.core.contract import CallError
from niwaki.core.sentences import sentence
from niwaki.recipe.plain import plain
from niwaki.recipe.strict_yaml import parse_yaml

__all__ = ["checked_plan", "read_plan"]


def read_plan(path: str | Path) -> CompressConfig:
    """The section `compress` of a YAML file, or the file itself where it holds `steps`.

    Raises CallError where it cannot be read or holds no plan.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CallError(f"{path} is not a readable plan: {error}") from None
    values = parse_yaml(text, str(path))
    plan = values.get("compress", values) if isinstance(values, dict) else None
    if not isinstance(plan, dict) or "steps" not in plan:
        raise CallError(f"{path} holds no plan; write 'compress:' with its 'steps:', as in a recipe")
    return checked_plan(plan, f"{path}: ")


def checked_plan(plan: Mapping[str, Any], where: str = "") -> CompressConfig:
    """The plan of plain or typed values. Raises CallError in one sentence, after `where`."""
    try:
        return CompressConfig.model_validate(plain(plan))
    except ValidationError as error:
        raise CallError(f"{where}{sentence(error, CompressConfig)}") from None

"""Which operators of torch draw random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

__all__ = ["draws_noise"]


def draws_noise(operator: Any, arguments: Sequence[Any], named: Mapping[str, Any]) -> bool:
    """Whether a call of an operator of torch draws random numbers."""
    tags = getattr(operator, "tags", ())
    if torch.Tag.nondeterministic_seeded not in tags:
        return False
    schema = operator._schema.arguments
    usual = {a.name: a.default_value for a in schema if a.has_default_value()}
    given = usual | dict(zip((a.name for a in schema), arguments, strict=False)) | dict(named)
    # Attention and dropout are tagged whether they drop or not.
    if "dropout_p" in given or "attention" in str(operator):
        return bool(given.get("dropout_p", 0.0))
    return bool(given.get("p", True)) and given.get("train", given.get("training", True)) is not False

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
    given = dict(zip((a.name for a in operator._schema.arguments), arguments, strict=False)) | dict(named)
    # Attention and dropout are tagged whether they drop or not.
    if "dropout_p" in given or "attention" in str(operator):
        return bool(given.get("dropout_p", 0.0))
    if "dropout" in str(operator) or "rrelu" in str(operator):
        return bool(given.get("p", given.get("training", True))) and bool(
            given.get("train", given.get("training", True))
        )
    return True

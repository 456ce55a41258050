"""Values as YAML would give them: what Python hands in, typed configs included."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from pydantic import BaseModel

__all__ = ["plain", "said"]


def plain(value: Any) -> Any:
    """Mappings, lists and single values alone; what is none of them stays, for the schema to refuse.

    >>> plain({"widths": (64, 128)})
    {'widths': [64, 128]}
    """
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, PurePath) else value


def said(value: Any) -> str:
    """In a sentence, as YAML would have it on one line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"

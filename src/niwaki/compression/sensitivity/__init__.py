"""Which layers matter: damage per layer, technique and strength."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from niwaki.compression.sensitivity.config import SensitivityConfig

if TYPE_CHECKING:
    from niwaki.compression.sensitivity.entry import Entry, Sensitivity
    from niwaki.compression.sensitivity.measure import sensitivity
    from niwaki.compression.sensitivity.suggestion import Suggestion, suggest

__all__ = ["Entry", "Sensitivity", "SensitivityConfig", "Suggestion", "sensitivity", "suggest"]

_LAZY = {
    "Entry": "entry",
    "Sensitivity": "entry",
    "Suggestion": "suggestion",
    "sensitivity": "measure",
    "suggest": "suggestion",
}


def __getattr__(name: str) -> Any:
    """A recipe needs only the config."""
    if name in _LAZY:
        return getattr(importlib.import_module(f"niwaki.compression.sensitivity.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'niwaki.compression.sensitivity' has no attribute '{name}'")

"""Weights from outside: what is read, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from niwaki.core.hub_folder import refuse_pickle
from niwaki.features.preprocess import Preprocess

__all__ = ["Loaded", "refuse_pickle"]


@dataclass(frozen=True)
class Loaded:
    """A pretrained network, ready to be made an extractor.

    network:    prepared images → features (n, dim)
    preprocess: what it was trained on; None where the samples go in as they are
    settings:   whatever else decides its features
    """

    network: nn.Module
    dim: int
    preprocess: Preprocess | None
    settings: dict[str, Any] = field(default_factory=dict)

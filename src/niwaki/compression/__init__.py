"""Making models small: steps (prune, finetune, quantize), plans of steps, records of what each one did."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from niwaki.compression.config import (
    CompressConfig,
    DistillConfig,
    FinetuneConfig,
    PruneConfig,
    QuantizeConfig,
    SamplingConfig,
    StepConfig,
    check_order,
)

if TYPE_CHECKING:
    from niwaki.compression.plan import Compressed, compress
    from niwaki.compression.pruning.channels import Pruned, prune
    from niwaki.compression.record import Record

__all__ = [
    "CompressConfig",
    "Compressed",
    "DistillConfig",
    "FinetuneConfig",
    "PruneConfig",
    "Pruned",
    "QuantizeConfig",
    "Record",
    "SamplingConfig",
    "StepConfig",
    "check_order",
    "compress",
    "prune",
]

_LAZY = {
    "Compressed": "plan",
    "Pruned": "pruning.channels",
    "Record": "record",
    "compress": "plan",
    "prune": "pruning.channels",
}


def __getattr__(name: str) -> Any:
    """Recipes need only the configs; what does the work is loaded when it is asked for."""
    if name in _LAZY:
        return getattr(importlib.import_module(f"niwaki.compression.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'niwaki.compression' has no attribute '{name}'")

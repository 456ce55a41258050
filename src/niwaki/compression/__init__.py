"""Making models small: steps (prune, finetune, quantize), plans of steps, records of what each one did."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from niwaki.compression.config import (
    CompressConfig,
    DistillConfig,
    FinetuneConfig,
    PackConfig,
    PruneConfig,
    QuantizeConfig,
    SamplingConfig,
    SensitivityConfig,
    ShareConfig,
    StepConfig,
    check_order,
)

if TYPE_CHECKING:
    from niwaki.compression.plan import Compressed, compress
    from niwaki.compression.pruning.channels import Pruned
    from niwaki.compression.pruning.entry import prune
    from niwaki.compression.record import Record
    from niwaki.compression.storage.share import Shared, share

__all__ = [
    "CompressConfig",
    "Compressed",
    "DistillConfig",
    "FinetuneConfig",
    "PackConfig",
    "PruneConfig",
    "Pruned",
    "QuantizeConfig",
    "Record",
    "SamplingConfig",
    "SensitivityConfig",
    "ShareConfig",
    "Shared",
    "StepConfig",
    "check_order",
    "compress",
    "prune",
    "share",
]

_LAZY = {
    "Compressed": "plan",
    "Pruned": "pruning.channels",
    "Record": "record",
    "Shared": "storage.share",
    "compress": "plan",
    "prune": "pruning.entry",
    "share": "storage.share",
}


def __getattr__(name: str) -> Any:
    """Recipes need only the configs; what does the work is loaded when it is asked for."""
    if name in _LAZY:
        return getattr(importlib.import_module(f"niwaki.compression.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'niwaki.compression' has no attribute '{name}'")

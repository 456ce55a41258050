"""Low-rank changes of weights: W + s·B·A beside a weight that stays, trained alone and merged in the end."""

from niwaki.nn.low_rank.attaching import (
    adaptable,
    adapted,
    attach,
    is_adapter,
    merge,
    restart,
    strip,
)
from niwaki.nn.low_rank.base import Adapter, adapter_class, register_adapter
from niwaki.nn.low_rank.files import changed_by, merge_adapter, write_adapter

__all__ = [
    "Adapter",
    "adaptable",
    "adapted",
    "adapter_class",
    "attach",
    "changed_by",
    "is_adapter",
    "merge",
    "merge_adapter",
    "register_adapter",
    "restart",
    "strip",
    "write_adapter",
]

"""Data: sources, the division into splits, the audit, and the stream of batches."""

from __future__ import annotations

from niwaki.data.audit import Audit, Finding
from niwaki.data.cache import cache_directory
from niwaki.data.columns import Column
from niwaki.data.config import DataConfig, Options, Pool, register, source_names
from niwaki.data.dataset import Dataset, Split
from niwaki.data.feeder import Feeder
from niwaki.data.load import load

__all__ = [
    "Audit",
    "Column",
    "DataConfig",
    "Dataset",
    "Feeder",
    "Finding",
    "Options",
    "Pool",
    "Split",
    "cache_directory",
    "load",
    "register",
    "source_names",
]

"""Which engine a recipe's figures and its verdict are taken on: the one that it names, or that its memory
allows."""

from __future__ import annotations

from pathlib import Path

from niwaki.recipe import ExportConfig
from niwaki_runtime import inspect
from niwaki_runtime.choice import choose_engine
from niwaki_runtime.choice import engine_beforehand as _beforehand

__all__ = ["engine_beforehand", "engine_of"]


def engine_beforehand(export: ExportConfig) -> str:
    """Before there is a bundle. Raises NiwakiError where no engine needs so little memory."""
    return _beforehand(export.engine, export.memory_limit)


def engine_of(export: ExportConfig, bundle: Path) -> str:
    """For this bundle. Raises NiwakiError where no engine runs it in so little memory."""
    return choose_engine(export.engine, inspect(bundle), export.memory_limit)

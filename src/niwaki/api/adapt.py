"""Adapt: other people's models; what is read, rebuilt and compared may take a minute, and is told."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from niwaki import adapters
from niwaki.api.progress import with_progress
from niwaki.workflow.reporter import Quiet, Reporter

__all__ = ["adapt", "adapt_language_model", "adapt_pipeline"]

Adapter = TypeVar("Adapter", bound=Callable[..., Any])


def _told(adapter: Adapter) -> Adapter:
    @with_progress
    @functools.wraps(adapter)
    def call(*given: Any, reporter: Reporter | None = None, **options: Any) -> Any:
        what = given[0] if given else options.get("factory", "")
        (reporter or Quiet()).stage("adapt", what if isinstance(what, str) else _name(what))
        return adapter(*given, **options)

    return call  # type: ignore[return-value]


def _name(what: Any) -> str:
    return str(what) if hasattr(what, "__fspath__") else type(what).__name__


adapt = _told(adapters.adapt)
adapt_language_model = _told(adapters.adapt_language_model)
adapt_pipeline = _told(adapters.adapt_pipeline)

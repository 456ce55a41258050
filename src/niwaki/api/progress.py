"""Verbs show their progress on a terminal and in a notebook, unless told otherwise."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["with_progress"]

Verb = TypeVar("Verb", bound=Callable[..., Any])


def with_progress(verb: Verb) -> Verb:
    """A verb that takes `progress` beside `reporter`: True shows bars with rate and time left on
    stderr, False is silent, None (the default) shows them where somebody looks: on a terminal and
    in a notebook."""

    @functools.wraps(verb)
    def call(*args: Any, progress: bool | None = None, reporter: Any = None, **named: Any) -> Any:
        shown = _looked_at() if progress is None else progress
        if reporter is not None or not shown:
            return verb(*args, reporter=reporter, **named)
        from niwaki.workflow.progress import Drawn

        drawn = Drawn()
        try:
            return verb(*args, reporter=drawn, **named)
        finally:
            drawn.close()

    return call  # type: ignore[return-value]


def _looked_at() -> bool:
    """Whether stderr is a terminal, or the code runs in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules

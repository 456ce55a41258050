"""Verbs show their progress on a terminal and in a notebook, unless told otherwise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["with_progress"]

Verb = TypeVar("Verb", bound=Callable[..., Any])


def with_progress(verb: Verb) -> Verb:
    """A verb that takes `progress` beside `reporter`: True shows it wherever this runs (bars on a terminal,
    one place of a notebook's cell, lines on stderr elsewhere), False is silent, None (the default) shows it
    where somebody looks: on a terminal and in a notebook."""

    @functools.wraps(verb)
    def call(*args: Any, progress: bool | None = None, reporter: Any = None, **named: Any) -> Any:
        from niwaki.workflow.watching import watched

        shown = watched(progress) if reporter is None else None
        if shown is None:
            return verb(*args, reporter=reporter, **named)
        try:
            return verb(*args, reporter=shown, **named)
        finally:
            shown.close()

    return call  # type: ignore[return-value]

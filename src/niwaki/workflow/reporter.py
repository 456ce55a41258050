"""How the work tells what it is doing. The command line draws it; the Python API is silent unless asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

__all__ = ["Quiet", "Reporter", "counter"]


class Reporter(Protocol):
    """Receives progress. Calls are cheap and frequent; drawing at a sensible rate is the receiver's
    business."""

    def stage(self, name: str, detail: str = "") -> None:
        """A new piece of work begins."""

    def update(self, done: int, total: int, info: Mapping[str, Any] | None = None) -> None:
        """`done` of `total` units of the current piece; `info` are figures worth seeing (losses)."""

    def note(self, text: str) -> None:
        """One line worth keeping."""


class Quiet:
    """Says nothing."""

    def stage(self, name: str, detail: str = "") -> None: ...

    def update(self, done: int, total: int, info: Mapping[str, Any] | None = None) -> None: ...

    def note(self, text: str) -> None: ...


def counter(reporter: Reporter) -> Callable[..., None]:
    """`update` as the `(done, total)` or `(done, total, info)` callback that lower floors call."""

    def call(done: int, total: int, info: Any = None) -> None:
        reporter.update(done, total, info if isinstance(info, Mapping) else {"": info} if info else None)

    return call

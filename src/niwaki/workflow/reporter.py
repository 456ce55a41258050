"""How the work tells what it is doing. Command line and notebook draw it; who wants nothing is silent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

__all__ = ["Quiet", "Reporter", "counter"]


class Reporter(Protocol):
    """Receives progress. Calls are cheap and frequent; drawing at a sensible rate, and saying from the first
    units of a loop how long it will take, is the receiver's business."""

    def stage(self, name: str, detail: str = "") -> None:
        """A new piece of work begins."""

    def update(self, done: int, total: int, info: Mapping[str, Any] | None = None) -> None:
        """`done` of `total` units of the current piece, which take about the same time each; `info` are
        figures worth seeing (losses)."""

    def note(self, text: str) -> None:
        """One line worth keeping."""

    def ahead(self, estimate: Callable[[], str]) -> None:
        """What can be said of the time before several pieces of work. `estimate` measures for a moment, so it
        is called only where somebody reads; empty where nothing can be said."""


class Quiet:
    """Says nothing."""

    def stage(self, name: str, detail: str = "") -> None: ...

    def update(self, done: int, total: int, info: Mapping[str, Any] | None = None) -> None: ...

    def note(self, text: str) -> None: ...

    def ahead(self, estimate: Callable[[], str]) -> None: ...


def counter(reporter: Reporter) -> Callable[..., None]:
    """`update` as the `(done, total)` or `(done, total, info)` callback that lower floors call."""

    def call(done: int, total: int, info: Any = None) -> None:
        reporter.update(done, total, info if isinstance(info, Mapping) else {"": info} if info else None)

    return call

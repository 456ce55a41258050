"""Progress in a notebook: one place of the cell that is drawn anew, instead of lines without end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from niwaki.workflow.pace import Pace, about_text
from niwaki.workflow.progress import TIMED, duration, figures

__all__ = ["InCell", "in_notebook"]

_SECONDS_BETWEEN_DRAWS = 0.3


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class InCell:
    """A line for every finished piece of work, a bar for the current one. Needs IPython alone."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._handle: Any = None
        self._name = self._detail = self._bar = self._about = ""
        self._began = self._drawn = 0.0
        self._pace = Pace()

    def stage(self, name: str, detail: str = "") -> None:
        self._finish()
        self._pace.begin()
        self._name, self._detail, self._began = name, detail, time.monotonic()
        self._bar = self._about = ""
        self._draw()

    def update(self, done: int, total: int, info: Mapping[str, Any] | None = None) -> None:
        now = time.monotonic()
        if (whole := self._pace.seen(done, total, now)) is not None:
            self._about = about_text(whole)
        if not self._name or (now - self._drawn < _SECONDS_BETWEEN_DRAWS and done != total):
            return
        self._bar = (
            f'<progress value="{done}" max="{max(total, 1)}" style="vertical-align:middle"></progress> '
            f"{done:,}/{total:,} {escape(figures(info))}"
        )
        self._draw()

    def note(self, text: str) -> None:
        self._lines.append(f"&nbsp; · {escape(text)}")
        self._draw()

    def ahead(self, estimate: Callable[[], str]) -> None:
        self.stage(*TIMED)
        if text := estimate():
            self.note(text)

    def close(self) -> None:
        self._finish(good=sys.exc_info()[0] is None)
        self._draw()

    def _finish(self, good: bool = True) -> None:
        if self._name:
            mark, took = "✓" if good else "✗", duration(time.monotonic() - self._began)
            self._lines.append(f"{mark} {self._called()} <span style='opacity:.6'>{took}</span>")
        self._name = ""

    def _called(self) -> str:
        return f"<b>{escape(self._name)}</b> {escape(self._detail)}"

    def _draw(self) -> None:
        from IPython.display import HTML, display  # there wherever this is drawn

        self._drawn = time.monotonic()
        lines = list(self._lines)
        if self._name:
            parts = (f"▸ {self._called()}", escape(self._about), self._bar)
            lines.append(" · ".join(part for part in parts if part))
        page = HTML(f"<div style='line-height:1.5'>{'<br>'.join(lines)}</div>")
        if self._handle is None:
            self._handle = display(page, display_id=True)
        else:
            self._handle.update(page)

"""Progress on stderr: bars with rate and time left on a terminal, a plain line every few seconds
elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from niwaki.workflow.curves import Curves
from niwaki.workflow.pace import Pace, about_text

__all__ = ["TIMED", "Drawn", "Plain", "duration", "figures"]

TIMED = ("time", "a few real steps and samples")
"""The stage in which it is measured how long the work will take, and what is done there."""

_SECONDS_BETWEEN_DRAWS = 0.08
_SECONDS_BETWEEN_LINES = 5.0


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3:07`, `1:02:40`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def figures(info: Mapping[str, Any] | None, most: int = 3) -> str:
    """The first few figures of `info`, short."""
    parts = []
    for key, value in list((info or {}).items())[:most]:
        shown = f"{value:.3g}" if isinstance(value, float) and math.isfinite(value) else str(value)
        parts.append(f"{key.replace('_', ' ')} {shown}".strip())
    return "  ".join(parts)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed:
            return Text("")
        return Text(f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s", style="dim")


class _Left(ProgressColumn):
    def render(self, task: Task) -> Text:
        if task.time_remaining is None or task.finished:
            return Text(duration(task.elapsed or 0.0), style="dim")
        return Text(f"{duration(task.time_remaining)} left", style="dim")


class _Bars(Progress):
    """Bars, with the curves of what is under way beneath them."""

    curves: Curves

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        curves = getattr(self, "curves", None)  # asked for once before there are any
        if curves is not None and (drawn := curves.render(self.console)) is not None:
            yield drawn


class Drawn:
    """On a terminal: a finished piece of work becomes one line, the current one is a bar, with the curves of
    its figures beneath where the terminal has room."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._progress = _Bars(
            SpinnerColumn(style="green"),
            TextColumn(
                "[bold]{task.fields[name]:<9}[/] {task.description}", table_column=Column(no_wrap=True)
            ),
            BarColumn(bar_width=24, complete_style="green", finished_style="green"),
            TextColumn("[dim]{task.fields[count]}[/]", table_column=Column(no_wrap=True)),
            _Rate(table_column=Column(no_wrap=True)),
            _Left(table_column=Column(no_wrap=True)),
            # what is left of the line; the rest is cut off
            TextColumn(
                "[dim]{task.fields[figures]}[/]",
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
            console=self.console,
            transient=True,
            expand=True,
        )
        self._curves = self._progress.curves = Curves()
        self._task: Any = None
        self._began = self._drawn = 0.0
        self._name = self._detail = ""
        self._counting = False
        self._pace = Pace()

    def stage(self, name: str, detail: str = "") -> None:
        self._finish()
        self._pace.begin()
        self._curves.clear()
        self._name, self._detail, self._began = name, detail, time.monotonic()
        self._counting = False
        self._progress.start()
        self._task = self._progress.add_task(escape(detail), total=None, name=name, count="", figures="")

    def update(self, done: int, total: int, info: Mapping[str, Any] | None = None) -> None:
        now = time.monotonic()
        self._curves.add(info or {})
        whole = self._pace.seen(done, total, now)
        if self._task is not None and whole is not None:
            told = f"{self._detail}, {about_text(whole)}" if self._detail else about_text(whole)
            self._progress.update(self._task, description=escape(told))
        if self._task is None or (now - self._drawn < _SECONDS_BETWEEN_DRAWS and done != total):
            return
        self._drawn = now
        changes: dict[str, Any] = {"count": f"{done:,}/{total:,}"}
        if info:
            changes["figures"] = escape(figures(info))
        if not self._counting or done < self._progress.tasks[-1].completed:
            # What a resumed work had done before says nothing about its rate, nor does an earlier loop.
            self._progress.reset(self._task, total=total, completed=done)
            self._counting = True
        self._progress.update(self._task, completed=done, total=total, **changes)

    def note(self, text: str) -> None:
        self.console.print(f"  [dim]·[/] {escape(text)}")

    def ahead(self, estimate: Callable[[], str]) -> None:
        self.stage(*TIMED)
        if text := estimate():
            self.note(text)

    def _finish(self, good: bool = True) -> None:
        if self._task is None:
            return
        self._progress.remove_task(self._task)
        self._task = None
        self._progress.stop()
        mark = "[green]✓[/]" if good else "[red]✗[/]"
        took = duration(time.monotonic() - self._began)
        self.console.print(f"{mark} [bold]{self._name:<9}[/] {escape(self._detail)} [dim]{took}[/]")

    def close(self) -> None:
        self._finish(good=sys.exc_info()[0] is None)


class Plain:
    """In a log: a line when a piece of work begins, one as soon as it can be told how long it takes, one
    every few seconds while it lasts, one when it ends."""

    def __init__(self) -> None:
        self._name = ""
        self._began = self._drawn = 0.0
        self._first: tuple[int, float] | None = None
        self._done = 0
        self._pace = Pace()

    def stage(self, name: str, detail: str = "") -> None:
        self.close()
        self._name, self._began = name, time.monotonic()
        self._pace.begin()
        self._drawn, self._first = self._began, None
        self._line(f"{name}: {detail}" if detail else name)

    def update(self, done: int, total: int, info: Mapping[str, Any] | None = None) -> None:
        now = time.monotonic()
        if self._first is None or done < self._done:
            self._first = (done, now)  # a resumed work does not begin at 0, an earlier loop has ended
        self._done = done
        if (whole := self._pace.seen(done, total, now)) is not None:
            self._line(f"{self._name}: {about_text(whole)}")
        if now - self._drawn < _SECONDS_BETWEEN_LINES:
            return
        self._drawn = now
        first, since = self._first
        rate = (done - first) / max(now - since, 1e-9)
        left = duration((total - done) / rate) if rate else "?"
        self._line(f"{self._name}: {done}/{total}  {rate:.1f}/s  {left} left  {figures(info)}".rstrip())

    def note(self, text: str) -> None:
        self._line(f"  {text}")

    def ahead(self, estimate: Callable[[], str]) -> None:
        self.stage(*TIMED)
        if text := estimate():
            self.note(text)

    def close(self) -> None:
        if self._name and sys.exc_info()[0] is None:
            self._line(f"{self._name}: done in {duration(time.monotonic() - self._began)}")
        self._name = ""

    def _line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

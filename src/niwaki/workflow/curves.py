"""The course of a training on a terminal: a small chart of every figure, drawn beneath its bar."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["Curves", "sparkline"]

POINTS = 96
"""Values kept of a figure, at most: beyond, every second one is forgotten and half as many are taken."""
LINES = 6
HEIGHT = 20
"""Lines that a terminal must have, so that charts leave room for what was said before."""
_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """Values over `width` characters of eight heights, from the lowest to the highest; those that fall on one
    character are averaged. What is not finite leaves a gap."""
    width = min(width, len(values))
    groups = [values[len(values) * i // width : len(values) * (i + 1) // width] for i in range(width)]
    means = []
    for group in groups:
        finite = [v for v in group if math.isfinite(v)]
        means.append(sum(finite) / len(finite) if finite else math.nan)
    known = [v for v in means if math.isfinite(v)]
    if not known:
        return " " * width
    low, high = min(known), max(known)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BLOCKS[round((v - low) * scale)] if math.isfinite(v) else " " for v in means)


class Curves:
    """What a training has told of itself so far. Figures are told many times between their changes; a value
    is taken when the figures are new."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = {}
        self._last: dict[str, float] = {}
        self._every: dict[str, int] = {}
        self._waiting: dict[str, int] = {}

    def clear(self) -> None:
        self.__init__()  # type: ignore[misc]

    def add(self, info: Mapping[str, Any]) -> None:
        """Figures as `update` is told them. Words, and the same figures again, add nothing."""
        numbers = {name: float(v) for name, v in info.items() if isinstance(v, int | float)}
        if numbers == self._last:
            return
        for name, value in numbers.items():
            kind = name.partition("/")[0]
            if kind == "validation" and self._last.get(name) == value:
                continue  # measured more seldom than the rest
            self._take(name, value)
        self._last = numbers

    def _take(self, name: str, value: float) -> None:
        self._waiting[name] = self._waiting.get(name, 0) + 1
        if self._waiting[name] < self._every.get(name, 1):
            return
        self._waiting[name] = 0
        kept = self.values.setdefault(name, [])
        kept.append(value)
        if len(kept) > POINTS:
            del kept[1::2]
            self._every[name] = 2 * self._every.get(name, 1)

    @property
    def shown(self) -> list[str]:
        """Names in the order of their lines: what is held out, then losses, then norms; rates are left out,
        and what would be a single point."""
        names = [n for n, v in self.values.items() if len(v) > 1 and not n.startswith("lr/")]
        return sorted(names, key=lambda n: (not n.startswith("validation/"), "norm" in n))[:LINES]

    def render(self, console: Console) -> Table | None:
        """None where there is nothing to draw yet, or no room."""
        if console.height < HEIGHT or not self.shown:
            return None
        width = max(8, min(48, console.width - 56))
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for name in self.shown:
            values = self.values[name]
            finite = [v for v in values if math.isfinite(v)]
            span = f"{min(finite):.3g} … {max(finite):.3g}" if finite else ""
            last = self._last.get(name, values[-1])
            table.add_row(
                Text(f"  {name.replace('_', ' ')}", style="dim"),
                Text(sparkline(values, width), style="cyan" if name.startswith("validation/") else "green"),
                Text(f"{last:.4g}" if math.isfinite(last) else str(last)),
                Text(span, style="dim"),
            )
        return table

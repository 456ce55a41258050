"""Charts as inline SVG in the page's colours, light and dark: matplotlib draws, CSS variables paint."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

__all__ = [
    "AFTER",
    "BEFORE",
    "SERIES",
    "Chart",
    "Mark",
    "curves",
    "histogram",
    "plane",
    "points",
    "scatter",
    "training_charts",
]

# Colours that stand for CSS variables until the SVG is finished.
PAINT = {
    "#010101": "var(--ink)",
    "#020202": "var(--muted)",
    "#030303": "var(--line)",
    "#040404": "var(--c1)",
    "#050505": "var(--c2)",
    "#060606": "var(--c3)",
    "#070707": "var(--c4)",
    "#080808": "var(--good-soft)",
    "#090909": "var(--after)",
    "#0a0a0a": "var(--card)",
}
INK, MUTED, LINE, SOFT, CARD = "#010101", "#020202", "#030303", "#080808", "#0a0a0a"
BEFORE, AFTER = MUTED, "#090909"
SERIES = ("#040404", "#050505", "#060606", "#070707")
MOST_POINTS = 300


@dataclass(frozen=True)
class Chart:
    """A drawing, with its title and the names of its series in the order of the page's colours."""

    title: str
    svg: str
    legend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A point of the plane with its intervals; an interval is None where it is not known."""

    name: str
    x: float
    y: float
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    colour: str = BEFORE
    shape: str = "o"


def training_charts(records: Sequence[Mapping[str, float]]) -> list[Chart]:
    """One small chart per phase of training (its loss terms), then gradient norms and learning rates."""
    groups: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for record in records:
        step = record.get("step")
        for key, value in record.items():
            if key in ("step", "stage", "seconds") or not isinstance(value, int | float) or step is None:
                continue
            group, _, term = key.rpartition("/")
            if key.startswith("lr/"):
                group = "learning rate"
            elif term.startswith("gradient_norm"):
                group, term = "gradient norm", group
            series = groups.setdefault(group or "training", {}).setdefault(term, ([], []))
            series[0].append(step)
            series[1].append(value)
    last = ("gradient norm", "learning rate")
    order = [g for g in groups if g not in last] + [g for g in last if g in groups]
    charts = []
    for group in order:
        names = list(groups[group])
        for at in range(0, len(names), len(SERIES)):
            part = {name: groups[group][name] for name in names[at : at + len(SERIES)]}
            charts.append(curves(group.replace("_", " ").replace("/", " · "), part))
    return charts


def curves(
    title: str,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    unit: str = "step",
    key: str = "",
) -> Chart:
    """Lines over `unit`. series: name → (steps, values). key: tells charts of equal titles apart."""
    figure, axes = _axes()
    lows, highs = [], []
    for colour, (steps, values) in zip(SERIES, series.values(), strict=False):
        every = -(-len(steps) // MOST_POINTS)
        axes.plot(steps[::every], values[::every], color=colour, linewidth=1.4, solid_capstyle="round")
        lows.append(min(values))
        highs.append(max(values))
    if min(lows) > 0 and max(highs) > 200 * min(lows):
        axes.set_yscale("log")
    axes.set_xlabel(unit)
    axes.margins(x=0.01)
    return Chart(title, _svg(figure, title + key), tuple(name.replace("_", " ") for name in series))


def histogram(title: str, values: np.ndarray, unit: str) -> Chart:
    """How often each value occurs."""
    figure, axes = _axes(height=1.7)
    axes.hist(values, bins=min(40, max(8, int(np.sqrt(len(values))))), color=SERIES[0])
    axes.set_xlabel(unit)
    axes.set_xlim(left=0)
    axes.locator_params(axis="y", nbins=4, integer=True, prune="lower")
    return Chart(title, _svg(figure, title))


def points(title: str, sets: Mapping[str, np.ndarray]) -> Chart:
    """The first two coordinates of samples that are no pictures."""
    figure, axes = _axes(height=3.2)
    for colour, samples in zip(SERIES, sets.values(), strict=False):
        flat = samples.reshape(len(samples), -1)[:1000]
        second = flat[:, 1] if flat.shape[1] > 1 else np.zeros(len(flat))
        axes.plot(flat[:, 0], second, ".", color=colour, markersize=3, alpha=0.6)
    return Chart(title, _svg(figure, title), tuple(sets))


def plane(
    title: str,
    axes_titles: tuple[str, str],
    marks: Sequence[Mark],
    ideal: tuple[float, float] | None,
    *,
    most: tuple[float, float] = (math.inf, math.inf),
    key: str = "",
) -> Chart:
    """Marks with their intervals as crosses.

    ideal: what a perfect model scores on each axis; what lies beyond is its corner
    most:  the largest value that exists on each axis; key: tells charts of equal titles apart
    """
    figure, axes = _axes(3.9, 3.2)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    ends = [_ends([_reach(m, i) for m in marks], ideal[i] if ideal else None, most[i]) for i in (0, 1)]
    axes.set_xlim(ends[0])
    axes.set_ylim(ends[1])
    if ideal:
        x, y = ideal
        axes.fill_between([x, ends[0][1]], y, ends[1][1], color=SOFT, linewidth=0, zorder=0.5)
        axes.plot([x, x], ends[1], color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
        axes.plot(ends[0], [y, y], color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
        axes.plot(x, y, "D", color=CARD, markeredgecolor=INK, markersize=6.5, zorder=5)
    for first, second in pairwise(marks):
        axes.plot([first.x, second.x], [first.y, second.y], color=LINE, linewidth=1.4, zorder=2)
    for mark in marks:
        for low_high, at in ((mark.x_interval, 0), (mark.y_interval, 1)):
            if low_high is None:
                continue
            line = (low_high, [mark.y, mark.y]) if at == 0 else ([mark.x, mark.x], low_high)
            axes.plot(*line, color=mark.colour, linewidth=1.6, solid_capstyle="butt", zorder=3)
            axes.plot(*line, "|" if at == 0 else "_", color=mark.colour, markersize=7, zorder=3)
        axes.plot(
            mark.x, mark.y, mark.shape, color=mark.colour, markeredgecolor=CARD, markersize=8.5, zorder=4
        )
    axes.set_xlabel(f"{axes_titles[0]} →")
    axes.set_ylabel(f"{axes_titles[1]} →")
    axes.yaxis.label.set(color=MUTED, size=8)
    axes.locator_params(axis="y", nbins=5)
    return Chart(title, _svg(figure, title + key), tuple(m.name for m in marks))


def scatter(
    title: str,
    axes_titles: tuple[str, str],
    groups: Mapping[str, Sequence[tuple[float, float]]],
    ringed: Sequence[tuple[float, float]],
    lines: tuple[float | None, float | None],
) -> Chart:
    """Points in groups on logarithmic axes (straight ones where a value is not above 0).

    groups: name → points; ringed: those that are marked; lines: a limit on each axis, or None
    """
    from matplotlib.ticker import LogLocator

    figure, axes = _axes(5.2, 3.2)
    for place, (colour, points_of) in enumerate(zip(SERIES, groups.values(), strict=False)):
        columns = [p[0] for p in points_of], [p[1] for p in points_of]
        axes.plot(*columns, "os^v"[place % 4], color=colour, markeredgecolor=CARD, markersize=7, zorder=3)
    for x, y in ringed:
        axes.plot(x, y, "o", color="none", markeredgecolor=INK, markeredgewidth=1.2, markersize=13, zorder=4)
    every = [p for points_of in groups.values() for p in points_of]
    for at, (limit, scale, line) in enumerate(
        ((lines[0], axes.set_xscale, axes.axvline), (lines[1], axes.set_yscale, axes.axhline))
    ):
        values = [p[at] for p in every] + ([] if limit is None else [limit])
        if values and min(values) > 0:
            scale("log")
        if limit is not None:
            line(limit, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_xlabel(f"{axes_titles[0]}")
    axes.set_ylabel(f"{axes_titles[1]}")
    axes.yaxis.label.set(color=MUTED, size=8)
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
        axis.set_major_formatter(lambda value, _: f"{value:.3g}")
        axis.set_minor_formatter(lambda value, _: f"{value:.3g}")
    axes.tick_params(which="both", colors=MUTED, labelsize=8, length=0)
    return Chart(title, _svg(figure, title), tuple(groups))


def _reach(mark: Mark, axis: int) -> tuple[float, ...]:
    interval = (mark.x_interval, mark.y_interval)[axis]
    return ((mark.x, mark.y)[axis], *(interval or ()))


def _ends(found: Sequence[tuple[float, ...]], ideal: float | None, most: float) -> tuple[float, float]:
    """Limits that leave room around everything, and beyond the ideal for its corner."""
    values = [v for reach in found for v in reach] + ([] if ideal is None else [ideal])
    low, high = min(values), max(values)
    room = 0.14 * max(high - low, 0.02)
    # a share ends at 1, a mark on that line is still drawn whole
    return low - room, min(high + room, most + 0.3 * room) if math.isfinite(most) else high + room


def _axes(width: float = 3.6, height: float = 2.1):  # type: ignore[no-untyped-def]  # matplotlib is imported lazily
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=8, length=0)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.label.set(color=MUTED, size=8)
    return figure, axes


def _svg(figure, title: str) -> str:  # type: ignore[no-untyped-def]
    """The figure as an SVG element with the page's colours and fonts, the same for the same data."""
    import matplotlib

    file = io.StringIO()
    figure.patch.set_alpha(0)
    figure.axes[0].patch.set_alpha(0)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    # matplotlib writes either form, by its version
    text = re.sub(r"font-family: [^;\"]+", "font-family: var(--sans)", text)
    text = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font: \1 var(--sans)", text)
    for placeholder, variable in PAINT.items():
        text = text.replace(placeholder, variable)
    # what a reader of the screen says instead of the axes' numbers
    return text.replace("<svg ", f'<svg role="img" aria-label="{_escaped(title)}" ', 1)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")

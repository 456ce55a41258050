"""Charts as inline SVG in the page's colours, light and dark: matplotlib draws, CSS variables paint."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["SERIES", "Chart", "curves", "histogram", "points", "training_charts"]

# Colours that stand for CSS variables until the SVG is finished.
PAINT = {
    "#010101": "var(--ink)",
    "#020202": "var(--muted)",
    "#030303": "var(--line)",
    "#040404": "var(--c1)",
    "#050505": "var(--c2)",
    "#060606": "var(--c3)",
    "#070707": "var(--c4)",
}
MUTED, LINE = "#020202", "#030303"
SERIES = ("#040404", "#050505", "#060606", "#070707")
MOST_POINTS = 300


@dataclass(frozen=True)
class Chart:
    """A drawing, with its title and the names of its series in the order of the page's colours."""

    title: str
    svg: str
    legend: tuple[str, ...] = ()


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

"""The course of several trainings in one picture: a panel per figure, a line per run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from niwaki.core.errors import CallError, NiwakiError
from niwaki.report.picture_file import write_picture

__all__ = ["FORMATS", "draw_courses", "names_of"]

FORMATS = (".png", ".svg", ".pdf")
_COLUMNS, _PANELS = 3, 12
_FEW = ("step", "stage", "seconds")
_POINTS = 600


def names_of(courses: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Figures that are drawn where none are asked for: what several runs share, held-out ones first; rates
    and norms of gradients come last."""
    counts: dict[str, int] = {}
    for course in courses.values():
        for name in {k for row in course for k, v in row.items() if _is_number(v) and k not in _FEW}:
            counts[name] = counts.get(name, 0) + 1

    def order(name: str) -> tuple[bool, int, bool, str]:
        late = name.startswith("lr/") or "gradient_norm" in name
        return late, -counts[name], not name.startswith("validation/"), name

    return sorted(counts, key=order)


def draw_courses(
    courses: Mapping[str, Sequence[Mapping[str, Any]]], out: Path, names: Sequence[str] | None = None
) -> list[str]:
    """Write the picture; the names of the figures in it.

    courses: by run, rows of `metrics.jsonl`
    names:   figures to draw; default: the first twelve of `names_of`
    Raises CallError for a form of file that is not known and for names that no run has, NiwakiError where no
    run has a course.
    """
    if out.suffix.lower() not in FORMATS:
        raise CallError(f"{out}: pictures are written as {', '.join(FORMATS)}")
    known = names_of(courses)
    if not known:
        raise NiwakiError("none of these runs has been trained here: there is no course to draw")
    if unknown := [n for n in names or () if n not in known]:
        raise CallError(f"no run has a figure '{unknown[0]}'; there are {', '.join(known)}")
    shown = list(names or known[:_PANELS])
    write_picture(_picture(courses, shown), out, dpi=130)
    return shown


def _picture(courses: Mapping[str, Sequence[Mapping[str, Any]]], names: Sequence[str]) -> Any:
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.2 * columns, 2.7 * rows + 0.4), layout="constrained")
    lines: dict[str, Any] = {}
    for k, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, k + 1)
        lowest, highest = math.inf, -math.inf
        for at, (run, course) in enumerate(courses.items()):
            points = [(r["step"], r[name]) for r in course if _is_number(r.get(name)) and "step" in r]
            points = points[:: max(1, len(points) // _POINTS)]
            if not points:
                continue
            steps, values = zip(*points, strict=True)
            # One reading alone would be an invisible line.
            alone = len(points) == 1 or all(a == b for a, b in pairwise(steps))
            (line,) = axes.plot(
                steps, values, color=f"C{at % 10}", linewidth=1.4, marker="o" if alone else None
            )
            lines.setdefault(run, line)
            lowest, highest = min(lowest, *values), max(highest, *values)
        if lowest > 0 and highest > 200 * lowest:
            axes.set_yscale("log")
        axes.set_title(name.replace("_", " ").replace("/", " · "), fontsize=9, loc="left")
        axes.tick_params(labelsize=8)
        axes.grid(visible=True, alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if k >= len(names) - columns:
            axes.set_xlabel("step", fontsize=8)
    figure.legend(
        lines.values(),
        lines.keys(),
        loc="outside upper center",
        ncols=min(4, len(lines)),
        fontsize=8,
        frameon=False,
    )
    return figure


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

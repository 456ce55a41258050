"""Strengths with their intervals, and the chance table, as one picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niwaki.report.picture_file import write_picture

__all__ = ["draw_preferences"]

_INK, _LEAF = "#1f2421", "#2f6b4f"


def draw_preferences(record: Mapping[str, Any], out: Path) -> Path:
    """record: as of `niwaki.preferences`"""
    from matplotlib.figure import Figure

    models, n = record["models"], len(record["models"])
    figure = Figure(figsize=(9.0, 1.6 + 0.5 * n), layout="constrained")
    axes, table = figure.subplots(1, 2, width_ratios=(3, 2))
    for row, one in enumerate(models):
        low, high = one["interval"]
        axes.plot([low, high], [row, row], color=_LEAF, linewidth=2.2, solid_capstyle="round")
        axes.plot(one["strength"], row, "o", color=_LEAF, markersize=6)
    axes.set_yticks(range(n), [one["model"] for one in models])
    axes.set_ylim(n - 0.5, -0.5)
    axes.axvline(0.0, color="#bbbbbb", linewidth=0.8, zorder=0)
    axes.set_xlabel("strength (logarithm of the odds), 95 %", fontsize=9)
    axes.set_title(f"{record['answers']} answers", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    names = [one["model"] for one in models]
    grid = [[0.5 if a == b else record["chances"][a][b][0] for b in names] for a in names]
    table.imshow(grid, cmap="BrBG", vmin=0.0, vmax=1.0, aspect="auto")
    for i, row_of in enumerate(grid):
        for j, value in enumerate(row_of):
            if i != j:
                tone = "white" if abs(value - 0.5) > 0.35 else _INK
                table.text(j, i, f"{value:.0%}", ha="center", va="center", fontsize=9, color=tone)
    table.set_xticks(range(n), names, rotation=20, ha="right", fontsize=8)
    table.set_yticks(range(n), [""] * n)
    table.tick_params(length=0)
    table.set_title("preferred to the column", fontsize=10, loc="left")
    return write_picture(figure, out)

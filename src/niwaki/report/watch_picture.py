"""The course of a watch: of every channel the effect and its bounds, block by block, beside the margin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from niwaki.report.picture_file import write_picture

__all__ = ["draw_watch"]

_TONES = {"alarm": "#c0392b", "calm": "#2e8b57", "open": "#6b7280"}


def draw_watch(history: Sequence[Sequence[Mapping[str, Any]]], margin: float, title: str, out: Path) -> Path:
    """Write a picture. history: the readings after each block."""
    from matplotlib.figure import Figure

    channels = [row["channel"] for row in history[-1]]
    figure = Figure(figsize=(3.6 * len(channels), 2.9), layout="constrained")
    blocks = range(1, 1 + len(history))
    for k, name in enumerate(channels):
        rows = [next(row for row in said if row["channel"] == name) for said in history]
        axes = figure.add_subplot(1, len(channels), k + 1)
        tone = _TONES[rows[-1]["standing"]]
        lows, highs = [r["low"] for r in rows], [r["high"] for r in rows]
        axes.fill_between(blocks, lows, highs, color=tone, alpha=0.15, linewidth=0)
        axes.plot(blocks, [r["effect"] for r in rows], color=tone, linewidth=1.6)
        axes.axhline(margin, color="black", linewidth=0.9, linestyle="--")
        axes.axhline(0.0, color="#bbbbbb", linewidth=0.6)
        axes.set_ylim(-0.6, 1.02)
        axes.set_title(f"{name}: {rows[-1]['standing']}", fontsize=10, loc="left", color=tone)
        axes.set_xlabel("block", fontsize=8)
        if k == 0:
            axes.set_ylabel("effect (dashed: margin)", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return write_picture(figure, out)

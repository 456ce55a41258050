"""What `evaluate` says of a model that was trained on from another one, by the data of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from niwaki.cli.judged import draw_comparison

__all__ = ["draw_remembered"]


def draw_remembered(console: Console, found: Mapping[str, Any]) -> None:
    """The comparison; nothing where none was asked for."""
    if not found:
        return
    console.print()
    console.print(
        "[bold]What was remembered[/] [dim]both models by the data of the one before (train.remember)[/]"
    )
    if "left_out" in found:
        console.print(f"[yellow]·[/] left out: {escape(found['left_out'])}")
    else:
        draw_comparison(console, found)

"""What a watch found, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["draw_standings"]

_TONES = {"alarm": "bold red", "calm": "green", "open": "yellow"}
_WORDS = {
    "alarm": "an alarm: more than the margin, for certain",
    "calm": "less than the margin, for certain",
    "open": "not certain yet",
}


def draw_standings(console: Any, found: Mapping[str, Any], margin: float) -> None:
    """A table per stream, and the proposal."""
    from rich.markup import escape
    from rich.table import Table

    for stream, state in found["streams"].items():
        blocks, block = state["blocks"], state["block"]
        console.print(
            f"[bold]{stream}[/]: [{_TONES[state['standing']]}]{state['standing']}[/]"
            f" [dim]after {blocks} blocks of {block}; {state['waiting']} samples wait for the next[/]"
        )
        if not state["readings"]:
            continue
        table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
        for title in ("channel", "effect", f"certain (margin {margin:g})", "since block", ""):
            table.add_column(title)
        for row in state["readings"]:
            table.add_row(
                row["channel"], f"{row['effect']:+.2f}", f"{row['low']:+.2f} … {row['high']:+.2f}",
                str(row["since"] + 1), f"[{_TONES[row['standing']]}]{_words(row, margin)}[/]",
            )  # fmt: skip
        console.print(table)
        for row in state["readings"]:
            if row["standing"] == "alarm":
                console.print(f"  [bold red]{stream} {escape(row['title'])}[/]")
        if state["picture"]:
            console.print(f"  [dim]{escape(str(state['picture']))}[/]")
    proposal = found["proposal"]
    if proposal:
        call = f"niwaki run {found['watched']} --retrain {proposal['additions']}"
        console.print(
            f"\nTrain again with the {proposal['n']} samples since the change: [bold]{escape(call)}[/]"
        )
        if proposal["classes"]:
            console.print(f"[dim]their classes are {proposal['classes']}; correct them in the file[/]")


def _words(row: Mapping[str, Any], margin: float) -> str:
    if row["standing"] == "open" and row["room"] >= margin:
        least = row["room"] + margin
        return f"not certain; the held-out samples are too few to be calm, or to see less than {least:.2f}"
    return _WORDS[row["standing"]]

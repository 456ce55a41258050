"""Where an A/B trial stands, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["draw_trial_answer"]

_TONES = {"better": "green", "worse": "red", "alike": "green", "go on": "yellow"}
_WORDS = {
    "better": "B is better, for certain",
    "worse": "B is worse, for certain",
    "alike": "both are alike within the margin, for certain",
    "go on": "not certain yet: go on",
}


def draw_trial_answer(console: Any, found: Mapping[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    plan, outcome = found["trial"], found["outcome"]
    tone = _TONES[outcome["decision"]]
    console.print(
        f"[bold]{escape(plan['b'])}[/] (B, {plan['share']:.0%} of users) beside [bold]{escape(plan['a'])}[/] "
        f"(A): [{tone}]{_WORDS[outcome['decision']]}[/]"
    )
    table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
    for title in ("", "A", "B", "users", "B is better by", "at all times"):
        table.add_column(title)
    rows = {"outcome": outcome, **found["guards"]}
    for name, one in rows.items():
        a, b = (one["a"], one["b"]) if name == "outcome" else (1.0 - one["a"], 1.0 - one["b"])
        table.add_row(
            name, f"{a:.3f}" if one["n_a"] else "", f"{b:.3f}" if one["n_b"] else "",
            f"{one['n_a']} + {one['n_b']}", f"{one['difference']:+.3f}",
            f"{one['low']:+.3f} … {one['high']:+.3f}",
        )  # fmt: skip
    console.print(table)
    console.print(
        f"  [dim]bounds of the outcome miss with {plan['level']:g} at most, however often one looks; so do "
        f"all guardrails together; margin {plan['margin']:g}[/]"
    )
    if found["stopped"]:
        console.print(f"[red]✗[/] B was stopped, all users are given A: {escape(found['stopped'])}")
    elif found["stop"]:
        console.print(f"[red]✗[/] B is to be stopped: {escape(found['stop'])}")
    if found.get("picture"):
        console.print(f"[dim]{escape(str(found['picture']))}[/]")

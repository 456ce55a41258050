"""What a study of blind pairs found, on a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["draw_preferences_answer"]

_SHOWN = 12


def draw_preferences_answer(console: Any, found: Mapping[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    if "planned" in found:
        plan = found["planned"]
        console.print(
            f"[bold]{plan['answers']}[/] answers show a preference of {plan['chance']:.0%} with a power of "
            f"{plan['power']:.0%} [dim](two-sided at {plan['level']:.0%}, {plan['ties']:.0%} ties, "
            f"{plan['per_rater']} answers a rater, correlated by {plan['within_rater']:g})[/]"
        )
    if "models" not in found:
        return
    models = found["models"]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("model", "strength", "95 %", "rank", *(f"to {one['model']}" for one in models)):
        table.add_column(title)
    for one in models:
        low, high = one["interval"]
        first, last = one["ranks"]
        chances = found["chances"][one["model"]]
        table.add_row(
            escape(one["model"]), f"{one['strength']:+.2f}", f"{low:+.2f} … {high:+.2f}",
            str(first) if first == last else f"{first}–{last}",
            *(_chance(chances.get(other["model"])) for other in models),
        )  # fmt: skip
    console.print(table)
    raters = len(found["raters"]) - len(found["left_out"])
    console.print(
        f"[dim]{found['answers']} answers of {raters} raters, {found['ties']:.0%} ties, "
        f"{found['skipped']} skipped; chances to be preferred to another, where one is, with 95 %[/]"
    )
    console.print(_leader(found))
    for line in _remarks(found):
        console.print(line)
    _raters(console, found["raters"], found["left_out"])
    if found.get("picture"):
        console.print(f"[dim]{escape(str(found['picture']))}[/]")
    for form, export in (found.get("exports") or {}).items():
        console.print(f"{export['answers']} answers as {form}: {escape(str(export['file']))}")


def _chance(chance: Sequence[float] | None) -> str:
    if chance is None:
        return ""
    middle, low, high = chance
    tone = "green" if low > 0.5 else "red" if high < 0.5 else "yellow"
    return f"[{tone}]{middle:.0%}[/] [dim]{low:.0%}–{high:.0%}[/]"


def _leader(found: Mapping[str, Any]) -> str:
    from rich.markup import escape

    if found["leader"] is not None:
        return f"[green]✓[/] [bold]{escape(found['leader'])}[/] is preferred to every other"
    left = found["answers_left"]
    if left is None:
        return "[yellow]·[/] the first two are as good as equally strong: no number of answers can be named"
    if not left:
        return "[yellow]·[/] the first is told from the second, but not from every other"
    return f"[yellow]·[/] the leader is open: about {left} more answers, where the gap is as it looks now"


def _remarks(found: Mapping[str, Any]) -> list[str]:
    lines = []
    agreed = found["agreement"]
    if agreed is None:
        lines.append("[dim]· no question has the answers of two raters: their agreement is not known[/]")
    else:
        low, high = agreed["interval"]
        lines.append(
            f"[dim]·[/] raters agree: Krippendorff's α {agreed['alpha']:.2f} [dim]{low:.2f}–{high:.2f}[/]"
        )
    bias = found["position"]
    if bias is not None:
        low, high = bias["interval"]
        clear = bias["p_value"] < 0.05
        lines.append(
            f"{'[yellow]·[/]' if clear else '[dim]·[/]'} the left side was preferred in {bias['left']:.0%} "
            f"[dim]{low:.0%}–{high:.0%}[/] of {bias['n']} decided answers (p {bias['p_value']:.2g})"
            f"{': raters prefer a side' if clear else ''}"
        )
    return lines


def _raters(console: Any, raters: Sequence[Mapping[str, Any]], dropped: Sequence[str]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 2), header_style="dim")
    for title in ("rater", "answers", "same on both sides", "asked again", "right", "seconds"):
        table.add_column(title)
    for one in raters[:_SHOWN]:
        low, high = one["interval"]
        share = "" if math.isnan(one["share"]) else f"{one['share']:.0%} [dim]{low:.0%}–{high:.0%}[/]"
        name = escape(one["rater"])
        table.add_row(
            f"[strike]{name}[/] [dim]left out[/]" if one["rater"] in dropped else name, str(one["answers"]),
            "{} of {}".format(*one["identical"]), "{} of {}".format(*one["repeated"]), share,
            f"{one['seconds']:.1f}",
        )  # fmt: skip
    console.print(table)
    if len(raters) > _SHOWN:
        console.print(f"  [dim]and {len(raters) - _SHOWN} more (--json names all)[/]")

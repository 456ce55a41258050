"""`niwaki doctor`"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, Overrides, adder, at_work

__all__ = ["enter"]


@adder(
    "niwaki doctor digits-gan",
    "Look at the machine and the engines; given a recipe or a run, at its data, and whether it would learn.",
)
def doctor(
    what: Annotated[str | None, typer.Argument(metavar="RECIPE|RUN", help="Whose data to audit.")] = None,
    overrides: Overrides = None,
    checks: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Looks at the training before it: gradients, overfit, rate, batch; separated by commas, "
            "all, or none. Unless named, all but batch.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.workflow.doctor import doctor

        found = doctor(what, overrides or (), checks=_named(checks), reporter=work.reporter)

        def draw(console: Any) -> None:
            from rich.table import Table

            from niwaki.cli.findings import draw_findings

            for title in ("versions", "hardware", "engines"):
                console.print(f"[bold]{title}[/]")
                table = Table(box=None, show_header=False, padding=(0, 3, 0, 2))
                for key, value in found[title].items():
                    table.add_row(key, _shown(value))
                console.print(table)
            if "data" in found:
                console.print(f"[bold]data[/]  {found['data']['name']}")
                table = Table(box=None, show_header=False, padding=(0, 3, 0, 2))
                for key, value in found["data"]["figures"].items():
                    table.add_row(key, _shown(value))
                console.print(table)
            draw_findings(console, found["findings"])
            if not any(f["level"] != "note" for f in found["findings"]):
                console.print("[green]✓[/] nothing to worry about")

        work.answer(found, draw)


def _named(checks: str | None) -> Sequence[str] | None:
    """The names in what was typed; None for the usual ones."""
    if checks == "all":
        from niwaki.training.checks import CHECKS

        return CHECKS.names()
    return None if checks is None else [c.strip() for c in checks.split(",") if c.strip() not in ("", "none")]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "[green]yes[/]" if value else "[dim]no[/]"
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return str(value)


enter = doctor

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
    plant: Annotated[
        int | None,
        typer.Option(
            "--plant-duplicates",
            min=1,
            metavar="K",
            help="Train on data in which K samples are repeated; which of them does the model give out?",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=2, help="How often each planted sample is there.")] = 50,
    as_json: Json = False,
) -> None:
    if plant is not None:
        _answer_planted(what, overrides or (), plant, repeats, as_json)
        return
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


def _answer_planted(
    what: str | None, overrides: Sequence[str], planted: int, repeats: int, as_json: bool
) -> None:
    with at_work(as_json) as work:
        from niwaki.core.contract import CallError
        from niwaki.workflow.planting import plant_duplicates

        if what is None:
            raise CallError(
                "duplicates are planted in a recipe's data: niwaki doctor RECIPE --plant-duplicates 20"
            )
        found = plant_duplicates(what, overrides, planted=planted, repeats=repeats, reporter=work.reporter)

        def draw(console: Any) -> None:
            given, controls = found["given_out"], found["controls"]
            for text, part in (("planted", given), ("controls", controls)):
                low, high = part["interval"]
                console.print(f"{text}: {part['count']} of {planted} given out (95 % {low:.0%} … {high:.0%})")
            for name, measure in found["measures"].items():
                console.print(f"{name}: {'alarm' if measure['alarm'] else 'no alarm'}")

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

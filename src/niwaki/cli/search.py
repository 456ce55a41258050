"""`niwaki search`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, Overrides, adder, at_work
from niwaki.cli.outside import OUTSIDE, Weights

__all__ = ["enter"]


@adder(
    'niwaki search runs/digits-gan --budget "latency=/20, size=30kB" --time 20m',
    "Search for the plan that meets a budget and loses nothing, and prove it on the exported bundle.",
)
def search(
    what: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help=f"A run with a trained model; also {OUTSIDE}.")
    ],
    overrides: Overrides = None,
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            "-b",
            metavar="LIMITS",
            help="latency=0.3ms, latency@16=2ms, size=100kB, memory=40MB, evaluations=4; latency=/20 is a "
            "twentieth of what the model takes now.",
        ),
    ] = "",
    time: Annotated[str, typer.Option(metavar="20m", help="All that it may take.")] = "20m",
    apply: Annotated[
        bool,
        typer.Option("--apply", help="Where nothing meets the budget: try the cheapest remedy beyond it."),
    ] = False,
    sizes: Annotated[
        int, typer.Option(metavar="N", help="A family: also of budgets twice, four times … as wide.")
    ] = 1,
    workers: Annotated[
        int,
        typer.Option(metavar="N", help="Candidates that are tried side by side, a process for each."),
    ] = 1,
    on: Annotated[
        str, typer.Option(metavar="PLACE", help="Where these are: processes (of this machine), slurm, ray.")
    ] = "processes",
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE|RECIPE", help="For a model of no run: what it is trained and judged by."
        ),
    ] = None,
    weights: Weights = None,
    n: Annotated[
        int | None, typer.Option("-n", help="For a model of no run: pairs that the verdict rests on.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Where the result goes. [dim]default: search, in the run[/]"),
    ] = None,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki_runtime.errors import CallError

        if not budget:
            raise CallError('say what the bundle may cost: --budget "latency=0.3ms, size=100kB"')
        from niwaki.api.search import search

        found = search(
            what, overrides or (), budget=budget, time=time, data=data, weights=weights, n=n, out=out,
            apply=apply, sizes=sizes, workers=workers, on=on, reporter=work.reporter,
        )  # fmt: skip
        work.answer(found.to_json(), lambda console: _draw(found, console))
    if found.chosen is None:
        raise typer.Exit(1)


def _draw(found: Any, console: Any) -> None:
    from rich.table import Table

    from niwaki.compression.search.budget import cost_text

    keys = list(found.limits)
    axes = list(dict.fromkeys(axis for row in found.candidates for axis in row["losses"]))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("", *keys, *(f"{axis} lost" for axis in axes), "steps", "plan"):
        table.add_column(title, justify="left" if title in ("", "plan") else "right")
    for row in found.candidates:
        if not row["losses"]:
            continue
        mark = "[green]chosen[/]" if row["name"] == found.chosen else "front" if row["front"] else ""
        costs = [_cost(row, key, found.limits, cost_text) for key in keys]
        losses = [_loss(row["losses"].get(axis)) for axis in axes]
        table.add_row(mark, *costs, *losses, f"{row['trained']:,}", row["origin"])
    console.print(table)
    console.print(
        "[dim]losses in margins of the verdict, on validation samples; costs in brackets are predicted[/]"
    )
    if found.chosen is None:
        console.print(f"[yellow]no plan meets the budget and loses nothing.[/] {found.refusal['text']}")
        if found.explanation:
            console.print(found.explanation["text"])
        if "remedy" in found.refusal:
            console.print(
                f"The cheapest remedy: {found.refusal['remedy']} (niwaki search … --apply tries it)"
            )
        return
    if not found.meets:
        console.print("[yellow]no plan within the budget has lost nothing; this one exceeds it[/]")
    verdict = ", ".join(f"{axis}: {outcome}" for axis, outcome in found.verdict.items())
    console.print(f"on the test split, {verdict}")
    console.print(found.bundle)
    for member in found.sizes:
        if member["chosen"] is None:
            console.print(f"{member['size']}: nothing within its budget lost nothing")
            continue
        told = ", ".join(f"{axis}: {outcome}" for axis, outcome in member["verdict"].items())
        size = cost_text("size", member["bytes"])
        console.print(f"{member['size']}: {size}, {told}: {member['bundle']}")
    console.print(found.report)


def _cost(row: Any, key: str, limits: Any, text: Any) -> str:
    if key not in row["costs"]:
        return "–"
    said = text(key, row["costs"][key])
    over = row["costs"][key] > limits[key]
    said = said if key in row["measured"] else f"({said})"
    return f"[red]{said}[/]" if over else said


def _loss(loss: Any) -> str:
    if loss is None:
        return "–"
    colour = {"no loss": "green", "loss": "red"}.get(loss["outcome"], "yellow")
    return f"[{colour}]{loss['value']:+.2f}[/]"


enter = search

"""`niwaki tune`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, Overrides, adder, at_work

__all__ = ["enter"]


@adder(
    "niwaki tune digits-gan --range train.lr=1e-4..1e-2:log --choice model.width=32,64 --trials 20",
    "Search for the settings of a recipe, by trials that are judged on the validation split.",
)
def tune(
    what: Annotated[
        str, typer.Argument(metavar="RECIPE|STUDY", help="A recipe's file or name, or a study that goes on.")
    ],
    overrides: Overrides = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="KEY=LOW..HIGH[:log]", help="Vary a number; also :step=8."),
    ] = None,
    choices: Annotated[
        list[str] | None, typer.Option("--choice", metavar="KEY=A,B,C", help="Vary among these values.")
    ] = None,
    objectives: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            metavar="NAME",
            help="fidelity, diversity, loss or a metric; twice for a front. [dim]default: fidelity and "
            "diversity[/]",
        ),
    ] = None,
    constraints: Annotated[
        list[str] | None,
        typer.Option("--constraint", metavar="'NAME >= X'", help="What the best trial has to keep."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Of the whole study. [dim]default: 20[/]")] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Trainings of each trial, whose mean counts.")
    ] = None,
    prune: Annotated[
        str | None, typer.Option(metavar="RULE", help="auto, median, hyperband or none.")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(metavar="20m", help="All that it may take: no trial begins that would end later."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that work at the study.")] = 1,
    on: Annotated[str, typer.Option(metavar="local", help="Where the processes run.")] = "local",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The study's directory. [dim]default: runs/<name>-tune[/]"),
    ] = None,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.recipe import parse_choice, parse_range
        from niwaki_runtime.errors import CallError

        if on != "local":
            raise CallError(
                f"niwaki tune does not run on '{on}'; start the same call on every machine that shares "
                "--out, and they work at one study"
            )
        given = dict([*map(parse_range, ranges or ()), *map(parse_choice, choices or ())])
        from niwaki.api.tune import tune

        record = tune(
            what, overrides or (), ranges=given or None, objectives=objectives, constraints=constraints,
            trials=trials, repeats=repeats, prune=prune, workers=workers, time=time, out=out,
            reporter=work.reporter,
        )  # fmt: skip
        work.answer(record.to_json(), lambda console: _draw(record, console))


def _draw(record: Any, console: Any) -> None:
    from rich.table import Table

    from niwaki.workflow.progress import duration

    names = list(dict.fromkeys(name for row in record.trials for name in row["values"]))
    keys = list(dict.fromkeys(key for row in record.trials for key in row["settings"]))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("trial", *names, *keys, "time", ""):
        table.add_column(title, justify="right" if title in ("trial", *names, "time") else "left")
    for row in _ordered(record):
        mark = "[green]best[/]" if row["number"] == record.best else ""
        if len(record.objectives) > 1 and row["number"] in record.front and not mark:
            mark = "front"
        own = "the recipe's own" if row["number"] == record.default else ""
        missed = "" if row["keeps"] else "misses a constraint"
        told = ", ".join(filter(None, (mark, own, missed, _why(row))))
        took = "" if row["seconds"] is None else duration(row["seconds"])
        values = [f"{row['values'][name]:.4g}" if name in row["values"] else "–" for name in names]
        settings = [_short(row["settings"].get(key)) for key in keys]
        table.add_row(str(row["number"]), *values, *settings, took, told)
    console.print(table)
    if isinstance(why := record.importance.get("left_out"), str):
        console.print(f"[dim]{why}[/]")
    for name, shares in record.importance.items():
        if isinstance(shares, dict):
            listed = ", ".join(f"{key} {share:.0%}" for key, share in shares.items())
            console.print(f"what decides {name}: {listed}")
    whole = sum(row["state"] == "complete" for row in record.trials)
    if record.best is None:
        console.print("[yellow]no trial is whole and keeps the constraints, so there is no best recipe[/]")
        return
    console.print(
        f"[dim]{whole} whole trials of {len(record.trials)}, judged on the {record.split} split; the best of "
        "many looks better than it is[/]"
    )
    console.print(f"niwaki run {record.path}/best.yaml")


def _ordered(record: Any) -> list[dict[str, Any]]:
    """The best first."""
    first = record.objectives[0]
    sign = -1.0 if first["better"] == "higher" else 1.0

    def rank(row: dict[str, Any]) -> tuple[Any, ...]:
        there = first["name"] in row["values"] and row["state"] == "complete"
        return (not there, not row["keeps"], sign * row["values"][first["name"]] if there else row["number"])

    return sorted(record.trials, key=rank)


def _why(row: dict[str, Any]) -> str:
    text = row["why"] if len(row["why"]) < 90 else row["why"][:87] + "…"
    return f"{row['state']}: {text}" if text else ("" if row["state"] == "complete" else row["state"])


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


enter = tune

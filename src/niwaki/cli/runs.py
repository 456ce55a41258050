"""`niwaki runs`"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, adder, at_work

__all__ = ["enter"]


@adder(
    "niwaki runs runs/digits-gan runs/digits-vae --plot courses.png",
    "List runs with what they came to, what tells their recipes apart, and their courses in one picture.",
)
def runs(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN|FOLDER]…", help="Runs, or folders of runs.")
    ] = None,
    sort: Annotated[
        str, typer.Option(metavar="KEY", help="created, name, bytes, seconds … or a figure: the best first.")
    ] = "created",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw how they were trained: .png, .svg or .pdf.")
    ] = None,
    figure: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Which figure is drawn; may be repeated.")
    ] = None,
    dvc: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a dvc.yaml with a stage for every run.")
    ] = None,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api.runs import runs as list_runs

        found = list_runs(*(folders or ()), sort=sort, plot=plot, figures=figure, dvc=dvc)

        def draw(console: Any) -> None:
            from rich.markup import escape

            from niwaki.report.run_table import run_table, value_text

            if not found["runs"]:
                console.print("There are no runs here yet; begin with: niwaki run digits-gan")
                return
            titles, rows = run_table(found["runs"])
            console.print(_drawn(titles, rows))
            settings = found["settings"]
            if settings["values"]:
                console.print("\nSettings that differ:")
                names = [Path(path).name for path in settings["runs"]]
                cells = [(key, *map(value_text, values)) for key, values in settings["values"].items()]
                console.print(_drawn(("", *names), cells))
            if plot is not None:
                console.print(f"\n[dim]{escape(str(plot))}: {escape(', '.join(found['plotted']))}[/]")
            if dvc is not None:
                console.print(f"\n[dim]{escape(str(dvc))}: try `dvc repro`[/]")

        work.answer(found, draw)


def _drawn(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for k, title in enumerate(titles):
        table.add_column(escape(title), style="bold" if k == 0 else "")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


enter = runs

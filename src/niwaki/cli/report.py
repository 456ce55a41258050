"""`niwaki report`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, adder, at_work

__all__ = ["enter"]


@adder("niwaki report runs/digits-gan", "Write the report of a run: one HTML file that holds everything.")
def report(
    what: Annotated[str, typer.Argument(metavar="RUN", help="A run directory.")],
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api.report import report

        path = report(what, reporter=work.reporter)

        def draw(console: Any) -> None:
            console.print(f"[bold]{path}[/]")

        work.answer({"report": path}, draw)


enter = report

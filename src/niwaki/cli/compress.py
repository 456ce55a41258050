"""`niwaki compress`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, Overrides, adder, at_work
from niwaki.cli.outside import OUTSIDE, Weights, refuse_for_runs

__all__ = ["enter"]


@adder(
    "niwaki compress runs/digits-gan compress.steps.0.ratio=0.7",
    "Carry out the compression plan of a run on its trained model, or one of your own on a model of no run.",
)
def compress(
    what: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help=f"A run with a trained model; also {OUTSIDE}.")
    ],
    overrides: Overrides = None,
    weights: Weights = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE|RECIPE",
            help="For a model of no run: what it is fine-tuned and judged on: digits, a recipe …",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="For a model of no run: where the result goes. [dim]default: compressed[/]"
        ),
    ] = None,
    n: Annotated[
        int, typer.Option("-n", help="For a model of no run: pairs that the verdict rests on.")
    ] = 1000,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.workflow.compress import compress
        from niwaki.workflow.outside import is_outside
        from niwaki.workflow.outside_verbs import compress_outside

        if is_outside(what):
            found = compress_outside(
                what, overrides or (), weights=weights, data=data, out=out, n=n, reporter=work.reporter
            )
        else:
            refuse_for_runs(what, weights=weights, data=data, out=out)
            found = compress(what, overrides or (), reporter=work.reporter)

        def draw(console: Any) -> None:
            from niwaki.cli.table import draw_steps

            draw_steps(console, found)
            if "bundle" in found:
                console.print(f"[bold]{found['bundle']}[/]")

        work.answer(found, draw)


enter = compress

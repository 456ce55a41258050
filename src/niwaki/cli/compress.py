"""`niwaki compress`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, Overrides, adder, at_work
from niwaki.cli.outside import OUTSIDE, Loras, Weights, refuse_for_runs, with_loras

__all__ = ["enter"]


@adder(
    "niwaki compress runs/digits-gan compress.steps.0.ratio=0.7",
    "Compress a run's trained model by its plan, or a model of no run: to a bundle, a verdict and a report.",
)
def compress(
    what: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help=f"A run with a trained model; also {OUTSIDE}.")
    ],
    overrides: Overrides = None,
    weights: Weights = None,
    lora: Loras = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE|RECIPE",
            help="For a model of no run: what it is fine-tuned and judged on: digits, a recipe …",
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="FILE", help="Steps from a file, as `niwaki search` leaves them."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="For a model of no run: where the result goes. [dim]default: compressed[/]"
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("-n", help="For a model of no run: pairs that the verdict rests on. [dim]1000[/]"),
    ] = None,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api.compress import compress
        from niwaki.workflow.subjects.subject import is_model

        if not is_model(what):
            refuse_for_runs(what, weights=weights, data=data, out=out, n=n)
        found = compress(
            what,
            with_loras(what, overrides or (), lora),
            weights=weights,
            data=data,
            out=out,
            plan=plan,
            n=n,
            reporter=work.reporter,
        )

        def draw(console: Any) -> None:
            from niwaki.cli.table import draw_steps, draw_summary
            from niwaki.cli.unfit import draw_unfit

            draw_steps(console, found)
            draw_summary(console, found)
            draw_unfit(console, found)

        work.answer(found, draw)


enter = compress

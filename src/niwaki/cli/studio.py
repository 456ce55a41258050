"""`niwaki studio`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from niwaki.cli.common import adder

__all__ = ["enter"]


@adder(
    "niwaki studio runs/digits-gan",
    "Pages in the browser: samples, runs while they train, searches, what was lost, blind pairs.",
)
def studio(
    models: Annotated[
        list[str],
        typer.Argument(metavar="RUN|RUNS|BUNDLE|NAME=BUNDLE", help="Of two or more, blind pairs, too."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of raters' answers.")] = Path("studio"),
    host: Annotated[
        str, typer.Option(help="0.0.0.0 lets phones in that know the whole address.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8100,
    seed: Annotated[
        int, typer.Option(help="Of the samples that raters see, and of the order of questions.")
    ] = 0,
    checks: Annotated[float, typer.Option(help="Share of planted questions.")] = 0.1,
    goal: Annotated[int, typer.Option(min=0, help="Answers that each rater is asked for.")] = 0,
) -> None:
    from niwaki.api.studio import studio as serve_studio

    def say(address: str) -> None:
        raters = f" for raters; their answers go to {out}" if "/rate?" in address else ""
        print(f"{address}{raters}; Ctrl-C ends it", file=sys.stderr, flush=True)

    serve_studio(models, out=out, host=host, port=port, seed=seed, checks=checks, goal=goal, told=say)


enter = studio

"""`niwaki studio`"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from niwaki.cli.common import adder

__all__ = ["enter"]


@adder(
    "niwaki studio runs/digits-gan runs/digits-vae",
    "Ask people which of two samples is better: a page of blind pairs.",
)
def studio(
    models: Annotated[
        list[str],
        typer.Argument(metavar="RUN|BUNDLE|NAME=BUNDLE", help="Two or more that make the same things."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the answers.")] = Path("studio"),
    host: Annotated[
        str, typer.Option(help="0.0.0.0 lets phones in that know the whole address.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8100,
    seed: Annotated[int, typer.Option(help="Of the samples and of the order of questions.")] = 0,
    checks: Annotated[float, typer.Option(help="Share of planted questions.")] = 0.1,
    goal: Annotated[int, typer.Option(min=0, help="Answers that each rater is asked for.")] = 0,
) -> None:
    from niwaki.api.studio import studio as serve_studio

    def say(address: str) -> None:
        print(f"{address} asks; answers go to {out}; Ctrl-C ends it", file=sys.stderr, flush=True)

    serve_studio(models, out=out, host=host, port=port, seed=seed, checks=checks, goal=goal, told=say)


enter = studio

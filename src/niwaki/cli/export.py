"""`niwaki export`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, Overrides, adder, at_work
from niwaki.cli.outside import OUTSIDE, Loras, Weights, opened

__all__ = ["enter"]


@adder(
    "niwaki export runs/digits-gan",
    "Write the bundle of a run (compressed, where it is) or of a saved model, checked against torch.",
)
def export(
    what: Annotated[
        str, typer.Argument(metavar="RUN|MODEL", help=f"A run, or a model directory; also {OUTSIDE}.")
    ],
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="For a model directory: the bundle. [dim]default: <name>.niwaki[/]"),
    ] = None,
    weights: Weights = None,
    lora: Loras = None,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api.export import export

        source, rest = opened(what, overrides or (), weights, lora)
        found = export(source, rest, out=out, reporter=work.reporter)

        def draw(console: Any) -> None:
            from niwaki.report.words import bytes_text

            console.print(f"[bold]{found['bundle']}[/]  {bytes_text(found['bytes'])}")
            for engine, error in found.get("parity", {}).items():
                console.print(f"  [dim]largest difference from torch on {engine}: {error:.2g}[/]")

        work.answer(found, draw)


enter = export

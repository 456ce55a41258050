"""`niwaki compress`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, Overrides, adder, at_work

__all__ = ["enter"]


@adder(
    "niwaki compress runs/digits-gan compress.steps.0.ratio=0.7",
    "Carry out the compression plan of a run on its trained model.",
)
def compress(
    what: Annotated[str, typer.Argument(metavar="RUN", help="A run with a trained model.")],
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.workflow.compress import compress

        found = compress(what, overrides or (), reporter=work.reporter)

        def draw(console: Any) -> None:
            from niwaki.cli.table import draw_steps

            draw_steps(console, found)

        work.answer(found, draw)


enter = compress

"""`niwaki compare`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, Overrides, adder, at_work
from niwaki.cli.evaluate import Count, Data, Engine, Features, Metrics, Resize, names_in

__all__ = ["enter"]

_KINDS = "RUN|BUNDLE|FOLDER|NPZ"


@adder(
    "niwaki compare runs/digits-gan runs/digits-gan/digits-gan.niwaki",
    "Is B worse than A? Their metrics side by side, and a verdict on fidelity and on diversity.",
)
def compare(
    before: Annotated[str, typer.Argument(metavar=f"A({_KINDS})", help="What is compared with.")],
    after: Annotated[str, typer.Argument(metavar=f"B({_KINDS})", help="What may have lost something.")],
    overrides: Overrides = None,
    data: Data = None,
    features: Features = None,
    metrics: Metrics = None,
    n: Count = None,
    resize: Resize = False,
    engine: Engine = "auto",
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api.compare import compare

        found = compare(
            before, after, overrides or (), data=data, n=n, features=names_in(features),
            metrics=names_in(metrics), resize=resize, engine=engine, reporter=work.reporter,
        )  # fmt: skip

        def draw(console: Any) -> None:
            from niwaki.cli.judged import draw_comparison

            draw_comparison(console, found)

        work.answer(found, draw)


enter = compare

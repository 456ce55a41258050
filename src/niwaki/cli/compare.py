"""`niwaki compare`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, Overrides, adder, at_work
from niwaki.cli.evaluate import Count, Data, Engine, Features, Memory, Metrics, Resize, names_in
from niwaki.cli.outside import OUTSIDE, WEIGHTS

__all__ = ["enter"]

_KINDS = "RUN|BUNDLE|FOLDER|NPZ"

BeforeWeights = Annotated[Path | None, typer.Option(metavar="SAFETENSORS", help=f"Of A: {WEIGHTS}")]
AfterWeights = Annotated[Path | None, typer.Option(metavar="SAFETENSORS", help=f"Of B: {WEIGHTS}")]


@adder(
    "niwaki compare runs/digits-gan runs/digits-gan/digits-gan.niwaki",
    "Is B worse than A? Their metrics side by side, and a verdict on fidelity and on diversity.",
)
def compare(
    before: Annotated[
        str, typer.Argument(metavar=f"A({_KINDS})", help=f"What is compared with; also {OUTSIDE}.")
    ],
    after: Annotated[str, typer.Argument(metavar=f"B({_KINDS})", help="What may have lost something.")],
    overrides: Overrides = None,
    data: Data = None,
    features: Features = None,
    metrics: Metrics = None,
    n: Count = None,
    resize: Resize = False,
    before_weights: BeforeWeights = None,
    after_weights: AfterWeights = None,
    engine: Engine = "auto",
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api.compare import compare

        found = compare(
            before, after, overrides or (), data=data, n=n, features=names_in(features),
            metrics=names_in(metrics), resize=resize, engine=engine, memory=memory,
            before_weights=before_weights, after_weights=after_weights, reporter=work.reporter,
        )  # fmt: skip

        def draw(console: Any) -> None:
            from niwaki.cli.judged import draw_comparison
            from niwaki.cli.unfit import draw_unfit

            draw_comparison(console, found)
            draw_unfit(console, found)

        work.answer(found, draw)


enter = compare

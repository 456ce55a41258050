"""`niwaki evaluate`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, Overrides, adder, at_work

__all__ = ["enter"]


@adder(
    "niwaki evaluate runs/digits-gan/digits-gan.niwaki --engine onnxruntime",
    "Measure what a run's model, or a bundle on its engine, can do against the test split.",
)
def evaluate(
    what: Annotated[str, typer.Argument(metavar="RUN|BUNDLE", help="What to judge.")],
    overrides: Overrides = None,
    recipe: Annotated[
        str | None, typer.Option(help="For a bundle outside a run: the recipe (or run) of its data.")
    ] = None,
    engine: Annotated[str, typer.Option(help="For a bundle: openvino, onnxruntime or auto.")] = "auto",
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.workflow.evaluate import evaluate

        found = evaluate(what, overrides or (), recipe=recipe, engine=engine, reporter=work.reporter)

        def draw(console: Any) -> None:
            from niwaki.cli.table import draw_evaluation

            draw_evaluation(console, found)

        work.answer(found, draw)


enter = evaluate

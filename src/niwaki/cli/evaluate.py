"""`niwaki evaluate`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, Overrides, adder, at_work
from niwaki.cli.gate import Gated, GateLimit, pass_gate
from niwaki.cli.outside import OUTSIDE, Loras, Weights, refuse_for_runs, with_loras

__all__ = [
    "Count",
    "Data",
    "Devices",
    "Engine",
    "Features",
    "Memory",
    "Metrics",
    "Resize",
    "enter",
    "names_in",
]

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        "--recipe",
        metavar="SOURCE|RECIPE|RUN",
        help="For samples of no run: the data they answer to: digits, folder:photos, a recipe.",
    ),
]
Features = Annotated[
    list[str] | None,
    typer.Option(help="What looks at the samples: random, classifier, simclr …; separated by commas."),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(help="What is measured: frechet, vendi …, separated by commas, or all."),
]
Resize = Annotated[bool, typer.Option("--resize", help="Bring images of another size to that of the data.")]
Count = Annotated[int | None, typer.Option("-n", "--n", min=1, help="Samples on each side; by the recipe.")]
Engine = Annotated[str, typer.Option(help="For a bundle: openvino, onnxruntime or auto.")]
Devices = Annotated[int, typer.Option(min=1, help="Processes that share the samples, one device each.")]
Memory = Annotated[
    str | None,
    typer.Option(metavar="32MB", help="For a bundle: auto takes an engine that needs no more."),
]


def names_in(given: list[str] | None) -> list[str] | None:
    """`["a,b", "c"]` → `["a", "b", "c"]`."""
    return [name.strip() for part in given for name in part.split(",") if name.strip()] if given else None


@adder(
    "niwaki evaluate folder-of-pngs --data digits --metrics frechet,precision,recall",
    "Measure what a run's model, a bundle on its engine, a folder of images or an array file is worth "
    "against the test split.",
)
def evaluate(
    what: Annotated[
        str, typer.Argument(metavar="RUN|BUNDLE|FOLDER|NPZ", help=f"What to judge; also {OUTSIDE}.")
    ],
    overrides: Overrides = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="RUN|BUNDLE|FOLDER|NPZ", help="Compare with this: is WHAT worse than it?"),
    ] = None,
    data: Data = None,
    features: Features = None,
    metrics: Metrics = None,
    n: Count = None,
    resize: Resize = False,
    weights: Weights = None,
    lora: Loras = None,
    engine: Engine = "auto",
    memory: Memory = None,
    devices: Devices = 1,
    gate: Gated = False,
    gate_limit: GateLimit = None,
    as_json: Json = False,
) -> int:
    with at_work(as_json) as work:
        from niwaki.api.evaluate import evaluate
        from niwaki.workflow.subjects.external import is_external

        if not is_external(what):
            refuse_for_runs(what, weights=weights)
        found = evaluate(
            what, with_loras(what, overrides or (), lora), data=data, against=against, resize=resize,
            engine=engine, memory=memory, weights=weights, features=names_in(features),
            metrics=names_in(metrics), n=n, devices=devices, reporter=work.reporter,
        )  # fmt: skip

        def draw(console: Any) -> None:
            from niwaki.cli.judged import draw_comparison, draw_evaluation
            from niwaki.cli.remembered import draw_remembered
            from niwaki.cli.unfit import draw_unfit
            from niwaki.report.records import said_of

            if against is None:
                draw_evaluation(console, {"audit": said_of(Path(what)), **found})
                draw_remembered(console, found.get("remembered") or {})
            else:
                draw_comparison(console, found)
            draw_unfit(console, found)

        work.answer(found, draw)
    return pass_gate(found.get("gate") or {}, gate, gate_limit)


enter = evaluate

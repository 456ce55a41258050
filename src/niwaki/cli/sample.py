"""`niwaki sample`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, adder, at_work
from niwaki.cli.outside import OUTSIDE, Weights, opened, prompted

__all__ = ["enter"]


@adder(
    "niwaki sample runs/digits-gan -n 100 --seed 7 --out digits.png --out digits.npz",
    "Sample from a run, a model or a bundle into a picture (.png) or arrays (.npz, .npy).",
)
def sample(
    what: Annotated[
        str, typer.Argument(metavar="RUN|MODEL|BUNDLE", help=f"What to sample from; also {OUTSIDE}.")
    ],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="The sampler's own options: steps=10 …"),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="How many.")] = 60,
    seed: Annotated[int, typer.Option(help="Sample i of a seed is always the same.")] = 0,
    start: Annotated[int, typer.Option(help="Index of the first sample.")] = 0,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            "--condition",
            "-c",
            help="A class, by number or name; again for several; name=value for others.",
        ),
    ] = None,
    weights: Weights = None,
    engine: Annotated[str, typer.Option(help="For a bundle: openvino, onnxruntime or auto.")] = "auto",
    device: Annotated[str, typer.Option(help="For a run or a model: auto, cpu, cuda …")] = "auto",
    batch: Annotated[int | None, typer.Option(help="Samples worked on at once.")] = None,
    out: Annotated[
        list[Path] | None,
        typer.Option("--out", "-o", help="File to write; may be given twice. [dim]default: samples.png[/]"),
    ] = None,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api.sample import sample
        from niwaki.recipe import parse_override

        source, rest = opened(what, options or (), weights, device=device)
        overrides = {".".join(path): value for path, value in map(parse_override, rest)}
        places = out or [Path("samples.png")]
        asked = prompted(source, _condition(condition), n)
        made = sample(
            source, n, seed=seed, start=start, condition=asked, engine=engine, device=device,
                       batch=batch, out=places, reporter=work.reporter, **overrides,
        )  # fmt: skip

        def draw(console: Any) -> None:
            for place in places:
                console.print(f"[bold]{place}[/]  {n} samples of seed {seed}")

        work.answer(
            {
                "files": places,
                "n": n,
                "seed": seed,
                "start": start,
                "shape": made.spec.shape,
                "condition": made.condition,
            },
            draw,
        )


def _condition(given: list[str] | None) -> Any:
    """`["3"]` → `"3"`, `["3", "4"]` → both, in turn, `["mask=1"]` → a mapping."""
    if not given:
        return None
    if all("=" in g for g in given):
        from niwaki.recipe import parse_yaml

        return {
            name: parse_yaml(value, f"--condition {name}")
            for name, _, value in (g.partition("=") for g in given)
        }
    return given[0] if len(given) == 1 else given


enter = sample

"""`niwaki use`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, adder, at_work
from niwaki.cli.evaluate import Engine, Memory
from niwaki.cli.outside import OUTSIDE, Weights, opened

__all__ = ["enter"]


@adder(
    "niwaki use encode digits.niwaki *.png -o digits.nwk",
    "Do more with a model than sample from it: interpolate, reconstruct, anomalies, swap, encode, decode.",
)
def use(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Which use; `niwaki use list` says what each does.")
    ],
    what: Annotated[
        str | None, typer.Argument(metavar="RUN|MODEL|BUNDLE", help=f"What it is done with; also {OUTSIDE}.")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE|KEY=VALUE", help="What it is done to, and the use's own settings."),
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            "--condition",
            "-c",
            help="What the given samples are, where the model is conditioned; again for each in turn.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE|RECIPE|RUN", help="Where samples come from if no files are named."),
    ] = None,
    weights: Weights = None,
    engine: Engine = "auto",
    memory: Memory = None,
    device: Annotated[str, typer.Option(help="For a run or a model: auto, cpu, cuda …")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A file, or a directory for a file each."),
    ] = None,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api.use import use
        from niwaki.cli.sample import read_condition
        from niwaki.recipe import parse_overrides
        from niwaki.uses import find_use
        from niwaki_runtime.errors import CallError, NiwakiError

        if name == "list" and what is None:
            work.answer({"uses": _summaries()}, _draw_list)
            return
        found = find_use(name)
        if what is None:
            raise CallError(f"'{name}' needs a run, a model or a bundle: niwaki use {name} {found.example}")
        words = list(given or ())
        files = [Path(w) for w in words if "=" not in w or Path(w).exists()]
        settings = [w for w in words if "=" in w and not Path(w).exists()]
        source, rest = opened(what, settings, weights, device=device)
        options = {".".join(path): value for path, value, _ in parse_overrides(rest)}
        made = use(
            name, source, files, condition=read_condition(condition), seed=seed, data=data, engine=engine,
            memory=memory, device=device, reporter=work.reporter, **options,
        )  # fmt: skip
        place = out or (Path(f"{name}{made.ending}") if made.ending else None)
        written = made.write(place) if place is not None else []

        def draw(console: Any) -> None:
            for line in made.lines:
                console.print(line, markup=False, highlight=False)
            if written:
                more = f" … {written[-1].name}" if len(written) > 1 else ""
                console.print(f"[bold]{written[0]}[/]{more}")

        work.answer({"use": name, "files": written, **made.record}, draw)
        if made.failed:
            raise NiwakiError(made.failed)


def _summaries() -> dict[str, str]:
    from niwaki.uses import find_use, names_of_uses

    return {name: find_use(name).summary for name in names_of_uses()}


def _draw_list(console: Any) -> None:
    from niwaki.uses import find_use

    for name, summary in _summaries().items():
        console.print(f"[bold]{name}[/]  {summary}")
        console.print(f"    niwaki use {name} {find_use(name).example}", markup=False, highlight=False)


enter = use

"""`niwaki use`"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, adder, at_work
from niwaki.cli.evaluate import Engine, Memory
from niwaki.cli.outside import OUTSIDE, Loras, Weights, beside_parameters, opened

__all__ = ["enter"]

_SETTING = re.compile(r"[\w.]+=")


@adder(
    "niwaki use encode digits.niwaki *.png -o digits.nwk",
    "Do more with a model than sample from it: chat, interpolate, reconstruct, anomalies, swap, encode …",
)
def use(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Which use. `niwaki use list` says what each does, `niwaki use NAME` what it can be told.",
        ),
    ],
    what: Annotated[
        str | None, typer.Argument(metavar="RUN|MODEL|BUNDLE", help=f"What it is done with; also {OUTSIDE}.")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|WORDS|KEY=VALUE", help="What it is done to, and the use's own settings."
        ),
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
    lora: Loras = None,
    engine: Engine = "auto",
    memory: Memory = None,
    device: Annotated[str, typer.Option(help="For a run or a model: auto, cpu, cuda …")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A file, or a directory for a file each."),
    ] = None,
    sign: Annotated[
        Path | None,
        typer.Option(
            metavar="CERTIFICATE", help="Sign files by the certificate in this folder (C2PA, niwaki detect)."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api.use import use
        from niwaki.cli.sample import read_condition
        from niwaki.recipe import parse_overrides
        from niwaki_runtime.errors import NiwakiError

        if name == "list":
            work.answer({"uses": _summaries()}, _draw_list)
            return
        if what is None:
            work.answer(_described(name), lambda console: _draw(name, console))
            return
        words = list(given or ())
        settings = [w for w in words if _SETTING.match(w) and not Path(w).exists()]
        files = [w for w in words if w not in settings]
        source, rest = opened(what, settings, weights, lora, device=device)
        options = beside_parameters(parse_overrides(rest), use)
        made = use(
            name, source, files, condition=read_condition(condition), seed=seed, data=data, engine=engine,
            memory=memory, device=device, reporter=work.reporter, sign=sign,
            say=None if as_json else work.say, **options,
        )  # fmt: skip
        place = out or (Path(f"{name}{made.ending}") if made.ending else None)  # "decode/" is a folder
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


def _described(name: str) -> dict[str, Any]:
    from niwaki.uses import find_use
    from niwaki.uses.settings import settings_of

    use = find_use(name)
    return {
        "use": name,
        "summary": use.summary,
        "example": f"niwaki use {name} {use.example}",
        "settings": settings_of(use.Options),
    }


def _draw_list(console: Any) -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 3, 0, 0), show_header=False)
    for name, summary in _summaries().items():
        table.add_row(f"[bold]{name}[/]", summary)
    console.print(table)
    console.print()
    console.print("niwaki use NAME  shows an example and the settings of one", style="dim", markup=False)


def _draw(name: str, console: Any) -> None:
    from rich.markup import escape
    from rich.table import Table

    told = _described(name)
    console.print(f"[bold]{name}[/]: {escape(told['summary'])}")
    console.print()
    console.print(f"  {told['example']}", markup=False, soft_wrap=True)
    console.print()
    if not told["settings"]:
        console.print("It has no settings of its own.", style="dim")
        return
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    for column in ("setting", "default", "what it means"):
        table.add_column(column)
    for setting in told["settings"]:
        table.add_row(f"[bold]{setting['name']}[/]", _plain(setting["default"]), escape(setting["meaning"]))
    console.print(table)


def _plain(value: Any) -> str:
    """A default as one would type it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "–" if value in (None, "") else str(value)


enter = use

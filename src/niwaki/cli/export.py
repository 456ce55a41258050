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
    "Write the bundle of a run (compressed, where it is) or of a saved model, checked against torch; or a "
    "bundle for another target.",
)
def export(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN|MODEL|BUNDLE", help=f"A run, a model directory or a bundle; also {OUTSIDE}."
        ),
    ],
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="What is written. [dim]default: by the bundle's name, beside it[/]"),
    ] = None,
    target: Annotated[
        str, typer.Option(metavar="NAME", help="The form: `bundle`, or what the device needs ([dim]c[/] …).")
    ] = "bundle",
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="Of the target; may be repeated."),
    ] = None,
    hub: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write the bundle as a folder of the Hugging Face hub, too."),
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="USER/NAME", help="Upload it to the hub, with its card.")
    ] = None,
    license: Annotated[
        str | None, typer.Option(metavar="NAME", help="For the hub's card: mit, cc-by-4.0, other …")
    ] = None,
    weights: Weights = None,
    lora: Loras = None,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api.export import export
        from niwaki.core.contract import CallError
        from niwaki.deployment.targets import TARGETS
        from niwaki.recipe import parse_overrides

        source, rest = opened(what, overrides or (), weights, lora)
        options = {".".join(change.path): change.value for change in parse_overrides(option or ())}
        found = export(source, rest, out=out, target=target, options=options, reporter=work.reporter)

        from niwaki.api.hub import push_to_hub, save_pretrained

        if "bundle" not in found and (hub is not None or push is not None):
            raise CallError(f"the hub takes bundles, and the target '{target}' wrote none")
        if hub is not None:
            found["hub"] = save_pretrained(found["bundle"], hub, license=license)
        if push is not None:
            found["pushed"] = push_to_hub(found["bundle"], push, license=license)

        def draw(console: Any) -> None:
            from niwaki.report.words import bytes_text

            console.print(f"[bold]{found.get('bundle', found.get('out'))}[/]  {bytes_text(found['bytes'])}")
            for engine, error in found.get("parity", {}).items():
                console.print(f"  [dim]largest difference from torch on {engine}: {error:.2g}[/]")
            for line in TARGETS[target]().lines(found):
                console.print(f"  {line}", highlight=False)
            for place in (found.get("hub"), found.get("pushed")):
                if place is not None:
                    console.print(f"  [dim]for the hub: {place}[/]")

        work.answer(found, draw)


enter = export

"""`niwaki filter`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, adder, at_work

__all__ = ["enter"]


@adder(
    "niwaki filter faces.filter --good shown/ --bad withheld/ --data runs/faces",
    "Make a filter of good and bad samples, its threshold by a false-positive rate; or say what one is.",
)
def filter_(
    file: Annotated[
        str, typer.Argument(metavar="FILTER", help="The file to write; without --good and --bad: to read.")
    ],
    good: Annotated[
        Path | None, typer.Option(metavar="FOLDER|NPZ", help="Samples that are to be shown.")
    ] = None,
    bad: Annotated[
        Path | None, typer.Option(metavar="FOLDER|NPZ", help="Samples that are to be withheld.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE|RECIPE|RUN", help="What the samples are like.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="What it looks with; default: the run's first.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Share of good samples that may be withheld.")] = 0.01,
    held_out: Annotated[
        float, typer.Option("--held-out", help="Share of the samples that threshold and rates are from.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(help="Of the division into learnt and held out.")] = 0,
    resize: Annotated[bool, typer.Option("--resize", help="Bring images to the size of the data.")] = False,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api.filter import make_filter, read_record
        from niwaki.core.contract import CallError

        if (good is None) != (bad is None):
            raise CallError("a filter is made of --good and --bad samples; give both")
        if good is None:
            record = read_record(file)
        elif data is None:
            raise CallError("say what the samples are like with --data: a run, a recipe, a source")
        else:
            record = make_filter(
                file, good=good, bad=bad, data=data, features=features, rate=rate, held_out=held_out,
                seed=seed, resize=resize, reporter=work.reporter,
            )  # fmt: skip

        def draw(console: Any) -> None:
            from rich.markup import escape

            console.print(f"[bold]{escape(file)}[/]")
            for line in _lines(record):
                console.print(f"  {escape(line)}")

        work.answer({"file": file, **record}, draw)


def _lines(record: dict[str, Any]) -> list[str]:
    calibration, rates, area = (record.get(key) for key in ("calibration", "rates", "area"))
    lines = [f"threshold {record['threshold']:.4f}: samples with a higher score are withheld"]
    if calibration:
        low, high = calibration["interval"]
        lines.append(
            f"good samples withheld: {calibration['rate']:.2%} expected, 95 % {low:.2%} … {high:.2%}"
        )
    if rates:
        low, high = rates["true_positive_interval"]
        n = rates["n"]
        lines.append(f"bad samples withheld: {rates['true_positive']:.1%}, 95 % {low:.1%} … {high:.1%}")
        lines.append(f"held out: {n['good']} good, {n['bad']} bad")
    if area:
        low, high = area["interval"]
        lines.append(f"area under the ROC: {area['value']:.4f}, 95 % {low:.4f} … {high:.4f}")
    return lines


enter = filter_

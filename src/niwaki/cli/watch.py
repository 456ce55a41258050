"""`niwaki watch`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Fresh, Json, adder, at_work
from niwaki_runtime.errors import CallError

__all__ = ["enter"]


@adder(
    "niwaki watch runs/digits-gan --inputs arriving/ --outputs served/",
    "Watch what comes to a model in use and what it makes: drift, collapse, copies.",
)
def watch(
    what: Annotated[
        Path | None, typer.Argument(metavar="[RUN|BUNDLE]", help="What is in use; nothing with --ab.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER|NPZ", help="Real samples that arrive: pictures, .npz, .npy."),
    ] = None,
    outputs: Annotated[
        str | None,
        typer.Option(metavar="FOLDER|NPZ|BUNDLE", help="What was made; or a bundle that is drawn from."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE|RECIPE|RUN", help="For a bundle of no run.")
    ] = None,
    draw: Annotated[int, typer.Option(help="Samples that are drawn of a bundle.")] = 500,
    margin: Annotated[
        float, typer.Option(help="Effect that counts as none: a share of samples of another kind.")
    ] = 0.1,
    level: Annotated[float, typer.Option(help="Chance of ever raising a false alarm, per stream.")] = 0.01,
    block: Annotated[int, typer.Option(help="Samples after which is said what is certain.")] = 50,
    follow: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Look again after so long (60s, 10m), until Ctrl-C.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 where there is an alarm.")] = False,
    ab: Annotated[
        Path | None,
        typer.Option("--ab", metavar="LOG", help="Where a trial stands: the log of `niwaki serve --ab`."),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Of the trial's bounds as users came.")
    ] = None,
    fresh: Fresh = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where what is known is kept.")] = None,
    as_json: Json = False,
) -> int:
    if ab is not None:
        return _trial(ab, what, picture, strict, as_json)
    if what is None:
        raise CallError("name the run or the bundle that is in use, or a trial's log with --ab")
    with at_work(as_json) as work:
        from niwaki.api.watch import watch as watch_streams

        found = watch_streams(
            what, inputs=inputs, outputs=outputs, data=data, draw=draw, margin=margin, level=level,
            block=block, follow=follow, fresh=fresh, out=out, reporter=work.reporter,
        )  # fmt: skip

        def draw_answer(console: Any) -> None:
            from niwaki.report.watch_words import draw_standings

            draw_standings(console, found, margin)

        work.answer(found, draw_answer)
    alarmed = any(stream["standing"] == "alarm" for stream in found["streams"].values())
    return int(strict and alarmed)


def _trial(log: Path, what: Path | None, picture: Path | None, strict: bool, as_json: bool) -> int:
    if what is not None:
        raise CallError(f"--ab reads a trial's log; '{what}' is watched by a call of its own")
    with at_work(as_json) as work:
        from niwaki.api.trial import trial
        from niwaki.report.trial_words import draw_trial_answer

        found = trial(log, picture=picture)
        work.answer(found, lambda console: draw_trial_answer(console, found))
    return int(strict and bool(found["stopped"] or found["stop"]))


enter = watch

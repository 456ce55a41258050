"""`niwaki preferences`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.common import Json, adder, at_work

__all__ = ["enter"]


@adder(
    "niwaki preferences studio/ --export pairs:pairs.jsonl",
    "What the answers of `niwaki studio` say: strengths, ranks, agreement, biases.",
)
def preferences(
    answers: Annotated[
        Path | None, typer.Argument(metavar="[FILE|FOLDER]", help="`answers.jsonl`, or the studio's folder.")
    ] = None,
    reliable: Annotated[
        float,
        typer.Option(help="Leave out raters of whose planted questions certainly fewer were right."),
    ] = 0.0,
    export: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORM:FILE", help="pairs (for train.prefer), trl or label-studio; may be repeated."
        ),
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="PNG", help="Strengths and chances.")] = None,
    plan: Annotated[
        float | None, typer.Option(help="Answers needed where the better one is preferred so often.")
    ] = None,
    power: Annotated[float, typer.Option(help="Of the plan.")] = 0.8,
    ties: Annotated[float, typer.Option(help="Share of ties that the plan expects.")] = 0.0,
    per_rater: Annotated[int, typer.Option(min=1, help="Answers of one rater in the plan.")] = 1,
    within_rater: Annotated[float, typer.Option(help="Correlation of one rater's answers.")] = 0.0,
    as_json: Json = False,
) -> None:
    with at_work(as_json) as work:
        from niwaki.api.preferences import preferences as summarise

        found = summarise(
            answers, reliable=reliable, exports=[_export(one) for one in export or ()], picture=picture,
            plan=plan, power=power, ties=ties, per_rater=per_rater, within_rater=within_rater,
        )  # fmt: skip

        def draw(console: Any) -> None:
            from niwaki.report.preference_words import draw_preferences_answer

            draw_preferences_answer(console, found)

        work.answer(found, draw)


def _export(text: str) -> tuple[str, Path]:
    from niwaki_runtime.errors import CallError

    form, colon, file = text.partition(":")
    if not colon or not file:
        raise CallError(f"an export is named as FORM:FILE, as pairs:pairs.jsonl, not '{text}'")
    return form, Path(file)


enter = preferences

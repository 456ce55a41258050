"""`niwaki run`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from niwaki.cli.ahead import Estimate, Price, Time, answer_estimate
from niwaki.cli.common import Fresh, Json, Out, Overrides, Resume, Track, Work, adder, at_work, with_trackers
from niwaki.cli.gate import Gated, GateLimit, pass_gate

__all__ = ["enter"]


@adder(
    "niwaki run digits-gan", "The whole way of a recipe: train, evaluate, compress, export, judge, report."
)
def run(
    what: Annotated[
        str, typer.Argument(metavar="RECIPE|RUN", help="A recipe's file or name, or a run directory.")
    ],
    overrides: Overrides = None,
    out: Out = None,
    resume: Resume = False,
    fresh: Fresh = False,
    time: Time = None,
    estimate: Estimate = False,
    price: Price = None,
    track: Track = None,
    retrain: Annotated[
        Path | None,
        typer.Option(
            metavar="NPZ",
            help="Train a challenger on the run's data and these samples; judge it against the run.",
        ),
    ] = None,
    gate: Gated = False,
    gate_limit: GateLimit = None,
    as_json: Json = False,
) -> int:
    overrides = with_trackers(overrides, track)
    with at_work(as_json) as work:
        if estimate:
            answer_estimate(work, what, overrides, out, price)
            return 0
        if retrain is not None:
            _answer_challenge(work, what, retrain, overrides, time)
            return 0
        from niwaki.api.run import run
        from niwaki.workflow.summary import summary

        made = run(
            what, overrides or (), out=out, resume=resume, fresh=fresh, time=time, reporter=work.reporter
        )

        def draw(console: Any) -> None:
            from niwaki.cli.findings import draw_findings
            from niwaki.cli.table import draw_summary
            from niwaki.cli.unfit import draw_unfit
            from niwaki.report.records import said_of

            draw_summary(console, found)
            draw_unfit(console, found)
            draw_findings(console, said_of(found["run"]), "data")

        found = summary(made)
        work.answer(found, draw)
    if not gate and gate_limit is None:
        return 0
    from niwaki.report.records import EvaluationRecord, VerdictRecord

    records = [kind.read(made.path) for kind in (EvaluationRecord, VerdictRecord)]
    gates = {side: one for record in records if record is not None for side, one in record.gate.items()}
    return pass_gate(gates, gate, gate_limit)


def _answer_challenge(
    work: Work, champion: str, additions: Path, overrides: list[str] | None, time: str | None
) -> None:
    from niwaki.api.retrain import retrain

    found = retrain(champion, additions, overrides or (), time=time, reporter=work.reporter)

    def draw(console: Any) -> None:
        from rich.markup import escape

        for verdict in found["verdict"].values():
            if verdict.get("text"):
                console.print(escape(str(verdict["text"])))
        tone = "bold green" if found["promoted"] else "bold yellow"
        console.print(f"[{tone}]{escape(found['text'])}[/]")
        console.print(f"[dim]challenger[/]  {escape(str(found['challenger']))}")

    work.answer(found, draw)


enter = run

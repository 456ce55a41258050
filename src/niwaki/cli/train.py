"""`niwaki train`"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from niwaki.cli.ahead import Estimate, Price, Time, answer_estimate
from niwaki.cli.common import Fresh, Json, Out, Overrides, Resume, Track, adder, at_work, with_trackers
from niwaki.workflow.progress import duration, figures

__all__ = ["enter"]


_PROBES = {"linear": "linear probe:", "knn": "20 neighbours:"}


@adder(
    "niwaki train digits-gan train.steps=500 --out runs/quick",
    "Train the model or the encoder of a recipe, or go on with a run.",
)
def train(
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
    as_json: Json = False,
) -> None:
    overrides = with_trackers(overrides, track)
    with at_work(as_json) as work:
        if estimate:
            answer_estimate(work, what, overrides, out, price, training=True)
            return
        from niwaki.api.train import train
        from niwaki.cli.findings import draw_findings
        from niwaki.report.records import TrainingRecord, said_of

        run = train(
            what, overrides or (), out=out, resume=resume, fresh=fresh, time=time, reporter=work.reporter
        )
        record = TrainingRecord.read(run.path) or TrainingRecord()

        def draw(console: Any) -> None:
            console.print(
                f"[bold]{run.path}[/]  {record.steps:,} steps in {duration(record.training_seconds)}, "
                f"{record.samples_per_second:,.0f} samples/s, {record.parameters:,} parameters"
            )
            if record.last:
                console.print(f"[dim]{figures(record.last, most=6)}[/]")
            for way, by_split in (record.probe or {}).items():
                if by_split:
                    shares = ", ".join(f"{share:.1%} on {split}" for split, share in by_split.items())
                    console.print(f"{_PROBES[way]} {shares}")
            for failure in record.told:
                gone = "" if failure["lasting"] else " (at the end no longer)"
                when = "at the end" if failure.get("course") else f"from step {failure['step']:,} on"
                console.print(f"[yellow]{when}, {failure['text']}{gone}[/]")
            draw_findings(console, said_of(run.path), "data")

        work.answer({"run": run.path, **record.to_json()}, draw)


enter = train

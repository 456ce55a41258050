"""Run: the whole way, leg after leg; what still holds is left alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from niwaki.recipe import Recipe
from niwaki.workflow.compress import compress_leg
from niwaki.workflow.evaluate import evaluate_leg
from niwaki.workflow.export import export_leg
from niwaki.workflow.report import report_leg
from niwaki.workflow.reporter import Reporter
from niwaki.workflow.rundir import RunDirectory
from niwaki.workflow.session import open_session
from niwaki.workflow.train import resumable, train_inputs, train_leg
from niwaki.workflow.verdict import verdict_leg

__all__ = ["run"]


def run(
    what: str | Path | Recipe,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> RunDirectory:
    """Train → evaluate → compress → export → judge the bundle on its engine → report.

    A leg is done again only where something that it was made from has changed; a training that was stopped
    goes on from its last checkpoint. Raises what the legs raise; what was finished before stays.
    """
    session = open_session(what, overrides, out, reporter)
    directory = session.run
    with directory.hold():
        if directory.leg("train")["status"] == "done":
            changed = directory.changed("train", train_inputs(session))
            if changed:
                session.reporter.note(f"{', '.join(changed[:4])} changed: training again")
        worked = [
            train_leg(session, resume=resumable(session)),
            evaluate_leg(session),
            compress_leg(session),
            export_leg(session),
            verdict_leg(session),
            report_leg(session),
        ]
        if not any(worked):
            session.reporter.note(f"everything in {directory.path} is done and up to date")
    return directory

"""Report: write a run's page again."""

from __future__ import annotations

from pathlib import Path

from niwaki.api.progress import with_progress
from niwaki.workflow.reporter import Reporter
from niwaki.workflow.run_context import open_run
from niwaki.workflow.run_directory import RunDirectory
from niwaki.workflow.stages.report import ReportStage

__all__ = ["report"]


@with_progress
def report(what: str | Path, *, reporter: Reporter | None = None) -> Path:
    """Write `report.html` of a run and return its path. Raises CallError where `what` is no run."""
    RunDirectory.open(what)
    context = open_run(what, (), None, reporter)
    with context.run.hold():
        ReportStage().run(context, again=True)
    return context.run.report

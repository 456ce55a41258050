"""Report: one HTML file from what the run directory holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from niwaki import __version__
from niwaki.report import write_report
from niwaki.workflow.originals import keep_originals
from niwaki.workflow.reporter import Reporter
from niwaki.workflow.session import Session, open_session

__all__ = ["report", "report_leg"]

_SHOWN = ("train", "evaluate", "compress", "export", "verdict")


def report(what: str | Path, *, reporter: Reporter | None = None) -> Path:
    """Write `report.html` of a run and return its path. Raises CallError where `what` is no run."""
    from niwaki.workflow.rundir import RunDirectory

    RunDirectory.open(what)
    session = open_session(what, (), None, reporter)
    with session.run.hold():
        report_leg(session, again=True)
    return session.run.report


def report_leg(session: Session, *, again: bool = False) -> bool:
    """Write the report if what it shows has changed. Returns whether there was work."""
    run = session.run
    inputs: dict[str, Any] = {
        "niwaki": __version__,
        **{leg: {k: run.leg(leg).get(k) for k in ("inputs", "result", "finished")} for leg in _SHOWN},
    }
    if run.holds("report", inputs) and not again:
        return False
    session.reporter.stage("report", run.report.name)
    with run.working("report", inputs, (run.report,)):
        keep_originals(session)
        write_report(run.path)
    return True

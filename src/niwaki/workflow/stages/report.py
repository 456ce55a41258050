"""Report: one HTML file from the records of the run."""

from __future__ import annotations

from typing import Any

from niwaki.core.version import __version__
from niwaki.report import write_report
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.stages.originals import keep_originals
from niwaki.workflow.stages.stage import Stage

__all__ = ["ReportStage"]

_SHOWN = ("train", "evaluate", "compress", "export", "verdict")


class ReportStage(Stage):
    """`report.html`, written again where anything that it shows has changed."""

    name = "report"
    title = "report"
    quick = True

    def inputs(self, context: RunContext) -> dict[str, Any]:
        run = context.run
        shown = {stage: run.stage(stage) for stage in _SHOWN}
        states = {k: {key: v.get(key) for key in ("inputs", "result", "finished")} for k, v in shown.items()}
        return {"niwaki": __version__, **states}

    def work(self, context: RunContext, state: dict[str, Any]) -> None:
        context.reporter.stage("report", context.run.report.name)
        keep_originals(context)
        write_report(context.run.path)
        state["outputs"] = (context.run.report,)

"""Stages one after another, their time said beforehand; where one fails, the report says so first and claims
nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from niwaki.core.errors import NiwakiError, first_line
from niwaki.report import write_report
from niwaki.report.records import FailureRecord
from niwaki.training import Interrupted
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.stages.ahead import due_stages, tell_time
from niwaki.workflow.stages.stage import Stage

__all__ = ["carry_out"]


def carry_out(context: RunContext, stages: Sequence[Stage]) -> bool:
    """Tell how long the stages that do not hold will take, then run them; whether any had work to do.

    Raises what a stage raises. A report is written then that begins with the failure, unless the work had
    not begun (the call was refused) or was interrupted.
    """
    tell_time(context, due_stages(context, stages))
    worked = False
    for stage in stages:
        try:
            worked |= stage.run(context)
        except Interrupted:
            raise
        except Exception as error:
            if context.run.worked:
                _tell(context, stage.name, error)
            raise
    return worked


def _tell(context: RunContext, stage: str, error: Exception) -> None:
    said = str(error) if isinstance(error, NiwakiError) else f"{type(error).__name__}: {first_line(error)}"
    with suppress(Exception):  # the failure itself is what has to be told
        FailureRecord(stage=stage, error=said or type(error).__name__).write(context.run.path)
        write_report(context.run.path)
        context.reporter.note(f"what was done before is in {context.run.report}")

"""What a run came to, in one object: the table at its end, and what `niwaki run --json` prints."""

from __future__ import annotations

from typing import Any

from niwaki.core.store import jsonable
from niwaki.evaluation.extractor_checks.unfit import unfit_words
from niwaki.report.records import CompressionRecord, EvaluationRecord, ExportRecord, VerdictRecord
from niwaki.workflow.notebook.answers import Summary
from niwaki.workflow.run_directory import STAGES, RunDirectory

__all__ = ["summary"]


def summary(run: RunDirectory) -> Summary:
    """`run`, `report`, `bundle`, `stages` (status and seconds), `steps`, `measured`, `fitness` by extractor
    (`fit`, `text`), `unfit` (a sentence where none is fit, else ""), `sections` before and after, `verdict`
    by axis, `verdicts` by judge, `comparison`, `n`, `seed` of a finished run."""
    evaluation = EvaluationRecord.read(run.path) or EvaluationRecord()
    compression = CompressionRecord.read(run.path) or CompressionRecord()
    export = ExportRecord.read(run.path) or ExportRecord()
    judged = VerdictRecord.read(run.path) or VerdictRecord()
    measured = {way: dict(figures) for way, figures in export.measured.items()}
    if judged.bytes and "after" in measured:
        measured["after"]["bytes"] = judged.bytes
    return Summary(
        {
            "run": run.path,
            "name": run.recipe.name,
            "bundle": run.bundle,
            "bundle_bytes": run.bundle.stat().st_size,
            "report": run.report,
            "stages": {name: _state(run, name) for name in STAGES},
            "steps": compression.steps,
            "warnings": compression.warnings,
            "programs": export.programs,
            "measured": measured,
            "evaluation": {"trained": evaluation.trained, "bundle": judged.bundle},
            "fitness": {
                name: {k: found.get(k) for k in ("fit", "text")} for name, found in evaluation.fitness.items()
            },
            "unfit": unfit_words(evaluation.fitness),
            "sections": {"before": evaluation.sections, "after": judged.sections},
            "verdict": judged.verdict,
            "verdicts": judged.verdicts,
            "comparison": jsonable(judged.comparison),
            "n": judged.n or evaluation.n,
            "seed": evaluation.seed,
        }
    )


def _state(run: RunDirectory, name: str) -> dict[str, Any]:
    state = run.stage(name)
    return {key: state.get(key) for key in ("status", "seconds")}

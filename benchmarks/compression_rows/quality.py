"""What a row is worth beside the uncompressed model, asked the same by the same judge."""

from __future__ import annotations

from typing import Any

from compression_rows.subject import Subject
from niwaki.core.contract import Runner
from niwaki.core.store import jsonable
from niwaki.evaluation.judges import Section, Verdicts
from niwaki.workflow.judging import compare_evidence

__all__ = ["figures", "judged"]


def judged(subject: Subject, runner: Runner) -> dict[str, Any]:
    """`verdict` by axis, and the judge's figures on the row itself; `left_out` where there is no verdict."""
    after = subject.evidence(runner)
    found = compare_evidence(subject.context, subject.judge, subject.before, after, subject.margins)
    own = figures(subject.judge.evaluate(after, subject.dataset))
    if not isinstance(found, Verdicts):
        return {"verdict": {}, **found, **own}
    return {"verdict": jsonable(found.to_json()["axes"]), **own}


def figures(section: Section) -> dict[str, Any]:
    """`figures` of a section, the most telling first, each with name, value and interval."""
    shown = [{"name": f.name, "value": f.value, "interval": f.interval} for f in section.figures]
    return {"figures": jsonable(shown), "signature": section.signature}

"""Asking judges about one runner, or about two: the one way for runs, bundles, models and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from niwaki.core.contract import CallError, Runner
from niwaki.core.store import jsonable
from niwaki.evaluation.judges import Evidence, Judge, Margins, Section, Verdicts
from niwaki.workflow.context import EvaluationContext

__all__ = [
    "Judgement",
    "calibrate",
    "compare_evidence",
    "headline",
    "judge_runner",
    "section_parts",
    "undecided",
]

AXES = ("fidelity", "diversity")
PARTS = ("clusters", "bias", "gate", "modes")
"""What judges find beside their figures, by the names of the records' fields."""


@dataclass(frozen=True)
class Judgement:
    """One judge on one runner."""

    judge: Judge
    evidence: Evidence
    section: Section


def judge_runner(
    context: EvaluationContext,
    runner: Runner,
    what: str,
    *,
    judges: Sequence[Judge] | None = None,
    split: str = "test",
) -> list[Judgement]:
    """What every judge that applies says of a runner on a split.

    what:   it is called in the progress
    judges: those to ask, where they are known
    split:  `validation` where anything is chosen by what is said
    """
    found = []
    for judge in judges or context.judges(runner):
        context.reporter.stage("evaluate", f"{judge.title}: {what}")
        evidence = judge.evidence(runner, context.dataset, split, context.n, context.config.seed)
        context.reporter.stage("metrics", f"{judge.title}: {what}")
        found.append(Judgement(judge, evidence, judge.evaluate(evidence, context.dataset)))
    return found


def calibrate(context: EvaluationContext, runner: Runner, judgement: Judgement) -> Margins | dict[str, str]:
    """The judge's margins, measured before anything is compared; why there are none, where the data allow
    none."""
    judge, evidence = judgement.judge, judgement.evidence
    context.reporter.stage("margins", f"{judge.title}: what counts as a loss")
    try:
        base = evidence
        if judge.calibrates != evidence.split:
            base = judge.evidence(runner, context.dataset, judge.calibrates, context.n, context.config.seed)
        return judge.margins(base, context.dataset, evidence.n)
    except CallError as error:
        return {"left_out": str(error)}


def compare_evidence(
    context: EvaluationContext, judge: Judge, before: Evidence, after: Evidence, margins: Any
) -> Verdicts | dict[str, str]:
    """The judge's verdicts; why there are none, where nothing can be said.

    margins: `Margins`, their record, or why there are none
    """
    if isinstance(margins, Mapping):
        if "left_out" in margins:
            return {"left_out": str(margins["left_out"])}
        margins = Margins.from_json(margins)
    context.reporter.stage("verdict", f"{judge.title}: {after.n:,} items before and after")
    try:
        return judge.compare(before, after, margins, context.dataset)
    except CallError as error:
        return {"left_out": str(error)}


def headline(verdicts: Sequence[Verdicts | Mapping[str, Any]]) -> dict[str, Any]:
    """By axis, the verdict of the first judge that has a say on it, with the judge's name."""
    out: dict[str, Any] = {}
    for found in verdicts:
        if isinstance(found, Verdicts):
            for axis, verdict in found.to_json()["axes"].items():
                out.setdefault(axis, verdict)
    return {axis: jsonable(out[axis]) for axis in AXES if axis in out}


def undecided(verdicts: Mapping[str, Verdicts | Mapping[str, Any]]) -> dict[str, Any]:
    """Where no judge has a say: by axis, an inconclusive verdict with the reason; {} where there is none.

    verdicts: by judge
    """
    for judge in sorted(verdicts, key=lambda name: name != "samples"):
        found = verdicts[judge]
        if isinstance(found, Verdicts) or not found.get("left_out"):
            continue
        axes = AXES if judge == "samples" else AXES[:1]
        return {
            axis: {
                "outcome": "inconclusive",
                "judge": judge,
                "text": f"{axis.capitalize()}: inconclusive, nothing could be tested: {found['left_out']}.",
            }
            for axis in axes
        }
    return {}


def section_parts(judgements: Sequence[Judgement], side: str) -> dict[str, Any]:
    """Sections ready for a record, and what else was found: each part under `side`."""
    sections: list[dict[str, Any]] = []
    out: dict[str, Any] = {part: {} for part in PARTS}
    for judgement in judgements:
        record = jsonable(judgement.section)
        details = dict(record["details"])
        for part in PARTS:
            if part in details:
                out[part][side] = details.pop(part)
        for part in ("evaluation", "extractors", "fitness"):
            if part in details:
                out[part] = details.pop(part)
        sections.append({**record, "details": details})
    return {"sections": sections, **out}

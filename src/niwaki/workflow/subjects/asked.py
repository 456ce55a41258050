"""What the judges say of a subject, whatever it is."""

from __future__ import annotations

from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.given_model import check_samples_fit
from niwaki.workflow.judging import Judgement, judge_runner
from niwaki.workflow.subjects.samples import Origin, evidence_of_files
from niwaki.workflow.subjects.subject import Subject

__all__ = ["judge_subject"]


def judge_subject(
    subject: Subject, context: EvaluationContext, *, resize: bool = False
) -> tuple[list[Judgement], Origin]:
    """What every judge that applies says of a subject, and where its samples are from."""
    if subject.runner is not None:
        check_samples_fit(subject.runner, context.dataset)
        judgements = judge_runner(context, subject.runner, subject.words)
        first = judgements[0].evidence
        origin = Origin(
            subject.kind, subject.path, first.n, "labels" in first.arrays, context.config.seed, subject.engine
        )
        return judgements, origin
    evidence, origin = evidence_of_files(subject, context, resize=resize)
    judge = context.judge("samples")
    context.reporter.stage("evaluate", f"{evidence.n:,} samples of {subject.path}")
    return [Judgement(judge, evidence, judge.evaluate(evidence, context.dataset))], origin

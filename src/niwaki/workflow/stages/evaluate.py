"""Evaluate: what the trained model can do against the test split, and what would count as a loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from niwaki.features import files_of
from niwaki.report.records import EvaluationRecord
from niwaki.training.hardware import choose_device
from niwaki.workflow.estimates import Expected, Timed
from niwaki.workflow.evidence import write_arrays
from niwaki.workflow.judging import calibrate, judge_runner, section_parts
from niwaki.workflow.remembering import remembered, remembered_from
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.stages.stage import Stage

__all__ = ["EvaluateStage", "making_samples"]


class EvaluateStage(Stage):
    """Every judge that applies is asked about the trained model; its evidence and its margins are kept."""

    name = "evaluate"
    title = "evaluation"
    settings = ("evaluate",)

    def inputs(self, context: RunContext) -> dict[str, Any]:
        return {
            "model": context.run.result("train"),
            "data": context.fingerprint(),
            "evaluate": context.config.model_dump(mode="json"),
            "seed": context.recipe.seed,
            **_looked_with(context.config.features),
            **remembered_from(context.recipe.train),
        }

    def time(self, context: RunContext, timed: Timed) -> Sequence[Expected]:
        return (making_samples(context, timed, ("features", "metrics and margins")),)

    def prepare(self, context: RunContext) -> None:
        _ = context.model, context.dataset

    def work(self, context: RunContext, state: dict[str, Any]) -> None:
        run, model = context.run, context.model
        model.to(choose_device(context.device))
        outputs = [run.path / EvaluationRecord.file]
        judgements = judge_runner(context, model, "the trained model")
        margins: dict[str, Any] = {}
        evidence: dict[str, Any] = {}
        for judgement in judgements:
            name, found = judgement.judge.name, judgement.evidence
            margins[name] = calibrate(context, model, judgement)
            evidence[name] = {
                "judge": name, "split": found.split, "n": found.n, "seed": found.seed, "facts": found.facts,
            }  # fmt: skip
            write_arrays(run.evidence(name), {**found.arrays, **judgement.section.arrays})
            outputs.append(run.evidence(name))
        parts, kept = section_parts(judgements, "trained"), remembered(context)
        model.cpu()
        EvaluationRecord(
            n=judgements[0].evidence.n,
            seed=context.config.seed,
            evidence=evidence,
            margins=margins,
            trained=parts.pop("evaluation", {}),
            remembered=kept,
            **parts,
        ).write(run.path)
        state |= {"outputs": outputs, "result": context.run.stage(self.name)["inputs"]}


def making_samples(context: RunContext, timed: Timed, besides: tuple[str, ...]) -> Expected:
    """What all judges ask for; besides: what they do with it."""
    n = sum(judge.samples_made(context.n) for judge in context.judges(timed.make()))
    return Expected("making samples", timed.samples(n), besides=besides)


def _looked_with(features: Sequence[str]) -> dict[str, Any]:
    """The files of features that are named by their place: an encoder that was trained again looks with other
    eyes."""
    found = {name: text for name in features if (text := files_of(name))}
    return {"features": found} if found else {}

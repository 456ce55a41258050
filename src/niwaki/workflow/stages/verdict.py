"""Verdict: the bundle on its engine beside the trained model, asked the same by every judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import jsonable
from niwaki.evaluation.judges import Verdicts, judges_for
from niwaki.recipe import Recipe
from niwaki.report.records import EvaluationRecord, ExportRecord, VerdictRecord
from niwaki.workflow.bundle_metadata import write_bundle_metadata
from niwaki.workflow.engine_choice import engine_of
from niwaki.workflow.estimates import Expected, Timed
from niwaki.workflow.evidence import read_evidence, write_arrays
from niwaki.workflow.judging import compare_evidence, headline, judge_runner, section_parts, undecided
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.stages.evaluate import making_samples
from niwaki.workflow.stages.stage import Stage
from niwaki_runtime import load as load_bundle

__all__ = ["VerdictStage", "provenance_of"]


def provenance_of(context: RunContext, recipe: Recipe) -> dict[str, Any]:
    """What a bundle says of where it comes from."""
    return {
        "recipe": recipe.model_dump(mode="json", exclude={"data": {"path"}}),
        "data": context.fingerprint(),
        "seed": recipe.seed,
        "versions": context.run.info["versions"],
    }


class VerdictStage(Stage):
    """Judge the run's bundle against the evidence that the evaluation kept, and write what was found into its
    manifest."""

    name = "verdict"
    title = "verdict"
    settings = ("engine", "evaluate")

    def inputs(self, context: RunContext) -> dict[str, Any]:
        run, export = context.run, context.recipe.export
        return {
            "evaluation": run.result("evaluate"),
            "bundle": run.result("export"),
            # Written anew, the bundle has lost what this stage wrote into it, even with the same graphs.
            "written": [run.stage("export").get(key) for key in ("finished", "seconds")],
            "engine": export.model_dump(
                mode="json", include={"engine", "memory_limit", "precision", "threads"}
            ),
            "evaluate": context.config.model_dump(mode="json"),
        }

    def time(self, context: RunContext, timed: Timed) -> Sequence[Expected]:
        return (making_samples(context, timed, ("the verdict",)),)

    def work(self, context: RunContext, state: dict[str, Any]) -> None:
        run, config = context.run, context.recipe.export
        known = EvaluationRecord.read(run.path)
        if known is None:
            raise NiwakiError(f"{run.path} holds no evaluation; run `niwaki evaluate {run.path}`")
        bundle = load_bundle(
            run.bundle,
            engine=engine_of(config, run.bundle),
            precision=config.precision,
            threads=config.threads,
        )
        spoken = {judge.name for judge in judges_for(bundle, context.dataset, context.tools)}
        asked = [context.judge(name) for name in known.evidence if name in spoken]
        verdicts: dict[str, Any] = {}
        for name in known.evidence:
            if name not in spoken:
                why = "the bundle ships no program for it; name it in export.programs"
                context.reporter.note(f"the judge '{name}' has nothing to judge of the bundle: {why}")
                verdicts[name] = {"left_out": why}
        if not asked:
            raise CallError("no judge of the evaluation can judge the bundle; set export.programs")
        judgements = judge_runner(context, bundle, f"the bundle on {bundle.engine}", judges=asked)
        outputs = [run.path / VerdictRecord.file]
        particulars: dict[str, Any] = {}
        for judgement in judgements:
            name, after = judgement.judge.name, judgement.evidence
            before = read_evidence(run.evidence(name), known.evidence[name])
            found = compare_evidence(context, judgement.judge, before, after, known.margins.get(name, {}))
            verdicts[name] = found
            arrays = {**after.arrays, **judgement.section.arrays}
            if isinstance(found, Verdicts):
                arrays |= found.arrays
                particulars = particulars or dict(found.details)
            write_arrays(run.verdict_arrays(name), arrays)
            outputs.append(run.verdict_arrays(name))
        verdict = headline(list(verdicts.values())) or undecided(verdicts)
        parts = section_parts(judgements, "bundle")
        for other in ("extractors", "fitness"):
            parts.pop(other, None)
        measured = ExportRecord.read(run.path)
        size = self._write_metadata(context, measured, verdict)
        VerdictRecord(
            engine=bundle.engine,
            n=judgements[0].evidence.n,
            verdict=verdict,
            verdicts=jsonable(verdicts),
            bundle=parts.pop("evaluation", {}),
            comparison=jsonable(particulars),
            bytes=size,
            **parts,
        ).write(run.path)
        state |= {"outputs": outputs, "result": context.run.stage(self.name)["inputs"]}
        state["verdict"] = {axis: v["outcome"] for axis, v in verdict.items()}

    def _write_metadata(
        self, context: RunContext, export: ExportRecord | None, verdict: dict[str, Any]
    ) -> int:
        """Figures, verdicts and provenance into the run's bundle; returns its bytes on disk."""
        run, provenance = context.run, provenance_of(context, context.recipe)
        measured = {} if export is None else export.measured.get("after", {})
        write_bundle_metadata(
            run.bundle,
            run.bundle,
            name=context.recipe.name,
            # A file cannot state its own size for sure.
            measured={k: v for k, v in measured.items() if k != "bytes"},
            verdict=verdict,
            provenance=provenance,
        )
        return run.bundle.stat().st_size

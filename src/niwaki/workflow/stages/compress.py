"""Compress: the recipe's plan on the trained model; the pruned weights in `compressed/`, the record in
`compression.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from niwaki.compression import CompressConfig, SensitivityConfig
from niwaki.compression import compress as carry_out
from niwaki.compression.distillation.temperature import has_temperature
from niwaki.core.contract import GenerativeModel
from niwaki.core.store import jsonable
from niwaki.data.inputs import split_inputs
from niwaki.evaluation.judges.findings import fitness
from niwaki.report.records import CompressionRecord
from niwaki.workflow.engine_choice import engine_beforehand
from niwaki.workflow.estimates import Expected, Timed
from niwaki.workflow.operator_warnings import tell_off_path
from niwaki.workflow.reporter import counter
from niwaki.workflow.run_context import RunContext, hash_directory
from niwaki.workflow.stages.stage import Stage
from niwaki.workflow.stages.train import tracked

__all__ = ["CompressStage"]


class CompressStage(Stage):
    """The recipe's plan on the trained model: the weights of every step in `compressed/`."""

    name = "compress"
    title = "compression"
    settings = ("compress",)

    def inputs(self, context: RunContext) -> dict[str, Any]:
        plan = context.recipe.compress
        return {
            "model": context.run.result("train"),
            "data": context.fingerprint(),
            "compress": None if plan is None else plan.model_dump(mode="json"),
            "seed": context.recipe.seed,
            **({"programs": list(shipped)} if (shipped := context.recipe.export.programs) else {}),
        }

    def applies(self, context: RunContext) -> bool:
        return context.recipe.compress is not None

    def run(self, context: RunContext, *, again: bool = False) -> bool:
        return self.applies(context) and super().run(context, again=again)

    def time(self, context: RunContext, timed: Timed) -> Sequence[Expected]:
        """Steps that train, on networks that are as wide as before the plan: at most, where it prunes."""
        assert context.recipe.compress is not None
        steps = context.recipe.compress.steps
        times = [timed.step(step) for step in steps]
        seconds = None if None in times else sum(filter(None, times))
        at_most = " at most" if any(step.kind == "prune" for step in steps) else ""
        rest = tuple(step.kind for step, took in zip(steps, times, strict=True) if took == 0)
        return (Expected(f"fine-tuning{at_most}", seconds, besides=rest),)

    def prepare(self, context: RunContext) -> None:
        _ = context.model, context.dataset

    def work(self, context: RunContext, state: dict[str, Any]) -> None:
        run, plan, model = context.run, context.recipe.compress, context.model
        assert plan is not None
        if plan.sensitivity is not None:
            _measure_layers(context, plan.sensitivity)
        of = len(plan.steps)
        extractor = context.extractors[0] if _looks_at_samples(plan, model) else None
        context.reporter.stage("compress", " → ".join(step.kind for step in plan.steps))
        made = carry_out(
            model,
            context.dataset,
            plan,
            workdir=run.compressed,
            seed=context.recipe.seed,
            condition=split_inputs(model, context.dataset.train),
            progress=tracked(context),
            on_step=lambda k, kind: context.reporter.stage("compress", f"{k} of {of}: {kind}"),
            engine=engine_beforehand(context.recipe.export),
            warn=lambda found: tell_off_path(found, context.reporter),
            extractor=extractor,
        )
        for k, done in enumerate(made.records, 1):
            for note in done.notes if done.idle else ():
                context.reporter.note(f"step {k} of the plan, '{done.kind}': {note}")
        CompressionRecord(
            plan=plan.model_dump(mode="json"),
            seed=context.recipe.seed,
            warnings=[w.to_json() for w in made.warnings],
            steps=[jsonable(r) for r in made.records],
        ).write(run.path)
        state |= {
            "bundle": str(made.bundle.relative_to(run.path)),
            "parameters": sum(p.numel() for p in made.model.parameters()),
            "outputs": (run.compressed, run.path / CompressionRecord.file),
            "result": hash_directory(made.bundle),
        }


def _looks_at_samples(plan: CompressConfig, model: GenerativeModel) -> bool:
    """Whether a step will compare samples as an extractor sees them."""
    return has_temperature(model) and any(step.needs_extractor for step in plan.steps)


def _measure_layers(context: RunContext, config: SensitivityConfig) -> None:
    """`sensitivity.json`: what each layer costs; an interrupted measurement goes on."""
    from niwaki.compression.sensitivity.measure import sensitivity

    found = fitness(
        context.dataset,
        context.extractors,
        cache=context.cache,
        on_check=lambda name: context.reporter.stage("ladders", f"is '{name}' fit to judge?"),
    )
    context.reporter.stage("layers", "what each of them costs when it alone is pruned or rounded")
    sensitivity(
        context.model,
        context.dataset,
        config,
        extractors=context.extractors,
        fit={name: record.get("fit") for name, record in found.items()},
        seed=context.seed,
        condition=split_inputs(context.model, context.dataset.train),
        path=context.run.path / "sensitivity.json",
        progress=counter(context.reporter),
    )

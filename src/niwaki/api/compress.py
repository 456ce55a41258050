"""Compress: from a trained model to a bundle with a verdict and a report, whoever trained it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from niwaki.api.no_run import belongs_to_no_run, open_model, refuse_for_runs
from niwaki.api.progress import with_progress
from niwaki.compression import CompressConfig
from niwaki.core.contract import CallError, GenerativeModel
from niwaki.recipe import Overrides, Recipe, checked_plan, read_plan
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.run_context import RunContext, open_run
from niwaki.workflow.run_directory import RunDirectory
from niwaki.workflow.stages.compress import CompressStage
from niwaki.workflow.stages.evaluate import EvaluateStage
from niwaki.workflow.stages.export import ExportStage
from niwaki.workflow.stages.report import ReportStage
from niwaki.workflow.stages.train import TrainStage, as_trained
from niwaki.workflow.stages.verdict import VerdictStage
from niwaki.workflow.stages.way import carry_out
from niwaki.workflow.sufficiency import tell_lacking
from niwaki.workflow.summary import summary

__all__ = ["compress"]


@with_progress
def compress(
    what: str | Path | Recipe | Mapping[str, Any] | GenerativeModel,
    overrides: Overrides = (),
    *,
    data: Any = None,
    out: str | Path | None = None,
    plan: Any = None,
    weights: str | Path | None = None,
    n: int | None = None,
    seed: int | None = None,
    features: Sequence[str] | None = None,
    engine: str | None = None,
    memory: int | str | None = None,
    threads: int | None = None,
    torch_compile: bool | None = None,
    rounds: int | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Carry out a compression plan, export the result, judge it on its engine against the model, and report.

    what: a run with a trained model (its recipe's plan), or a model of no run: in memory (`niwaki.adapt`), a
          factory (`package.module:function`), a pipeline's folder, a saved model. All that follows is for
          these:
    data: a source by name, its settings, a recipe, or a loaded data set: what samples are compared with
    out:  the run directory that is made; default `compressed`
    plan: steps, or a file that holds them (as `niwaki search` leaves it), also for a run; default: those of
          `niwaki.compression.CompressConfig`, as on the command line: prune half of
          the channels, fine-tune, match a generator's temperature, quantize
    weights: a safetensors file with a factory's weights; "random" for those that it draws by chance
    n:    samples, or windows of text, that the verdict rests on; default 1000
    features: extractors; those that need labels are left out where there are none
    seed: of all that is drawn; default 0
    engine, memory, threads, torch_compile, rounds: fields of `export`, where `memory` is `memory_limit` and
          `rounds` is `repeats`
    Returns the summary of the run (`niwaki.workflow.summary`): `steps`, `measured`, `verdict` by axis,
    `comparison`, `bundle`, `report`, `run`.
    Raises CallError where the recipe has no plan, where no data are named, and where the samples are not of
    the data's shape; NiwakiError where there is no trained model or a step fails.
    """
    reporter = reporter or Quiet()
    plan = read_plan(plan) if isinstance(plan, str | Path) else plan
    figures = {"engine": engine, "memory_limit": memory, "threads": threads, "torch_compile": torch_compile}
    export = {name: value for name, value in {**figures, "repeats": rounds}.items() if value is not None}
    if not belongs_to_no_run(what):
        refuse_for_runs(
            what, data=data, out=out, weights=weights, n=n, seed=seed, features=features, **export
        )
        return _of_run(what, overrides, plan, reporter)
    run = open_model(
        what, overrides, data=data, out=out or "compressed", plan=plan, weights=weights, n=n, seed=seed,
        features=features, export=export, reporter=reporter,
    )  # fmt: skip
    tell_lacking(run)
    with run.run.hold():
        TrainStage().run(run)
        return _to_the_end(run)


def _of_run(what: Any, overrides: Overrides, plan: Any, reporter: Reporter) -> dict[str, Any]:
    context = open_run(what, overrides, None, reporter)
    if plan is not None:
        checked = plan if isinstance(plan, CompressConfig) else checked_plan({"steps": list(plan)})
        recipe = context.recipe.model_copy(update={"compress": checked})
        context = RunContext(RunDirectory.create(recipe, context.run.path), reporter)
    if context.recipe.compress is None:
        raise CallError("the recipe has no 'compress' section, so there is nothing to do; add its 'steps'")
    with context.run.hold():
        as_trained(context)
        return _to_the_end(context)


def _to_the_end(context: RunContext) -> dict[str, Any]:
    carry_out(context, (EvaluateStage(), CompressStage(), ExportStage(), VerdictStage(), ReportStage()))
    return summary(context.run)

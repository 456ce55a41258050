"""Compress: from a trained model to a bundle with a verdict and a report, whoever trained it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from niwaki.api.progress import with_progress
from niwaki.core.contract import CallError, GenerativeModel
from niwaki.recipe import Override, Overrides, Recipe, parse_overrides
from niwaki.workflow.context import context_for
from niwaki.workflow.given_model import open_given
from niwaki.workflow.own_tokenizer import cut_with_own
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.run_context import RunContext, open_run
from niwaki.workflow.run_directory import is_run
from niwaki.workflow.stages.compress import CompressStage
from niwaki.workflow.stages.evaluate import EvaluateStage
from niwaki.workflow.stages.export import ExportStage
from niwaki.workflow.stages.report import ReportStage
from niwaki.workflow.stages.train import TrainStage, as_trained
from niwaki.workflow.stages.verdict import VerdictStage
from niwaki.workflow.stages.way import carry_out
from niwaki.workflow.subjects.external import is_external, split
from niwaki.workflow.subjects.subject import is_model, open_subject
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
    seed: int = 0,
    features: Sequence[str] | None = None,
    engine: str = "openvino",
    threads: int = 2,
    torch_compile: bool = False,
    rounds: int = 30,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Carry out a compression plan, export the result, judge it on its engine against the model, and report.

    what: a run with a trained model (its recipe's plan), or a model of no run: in memory (`niwaki.adapt`), a
          factory (`package.module:function`), a pipeline's folder, a saved model. All that follows is for
          these:
    data: a source by name, its settings, a recipe, or a loaded data set: what samples are compared with
    out:  the run directory that is made; default `compressed`
    plan: steps; default: prune half of the channels, fine-tune, match a generator's temperature, quantize
    weights: a safetensors file with a factory's weights
    n:    samples, or windows of text, that the verdict rests on; default 1000
    features: extractors; those that need labels are left out where there are none
    engine, threads, torch_compile, rounds: of the figures
    Returns the summary of the run (`niwaki.workflow.summary`): `steps`, `measured`, `verdict` by axis,
    `comparison`, `bundle`, `report`, `run`.
    Raises CallError where the recipe has no plan, where no data are named, and where the samples are not of
    the data's shape; NiwakiError where there is no trained model or a step fails.
    """
    reporter = reporter or Quiet()
    loose = isinstance(what, GenerativeModel) or (
        isinstance(what, str | Path) and not is_run(what) and (is_external(what) or is_model(what))
    )
    if not loose:
        return _of_run(what, overrides, reporter)
    if data is None:
        raise CallError(f"{_name(what)} belongs to no run; name the data that it answers to: data=digits …")
    options, rest = (
        ({}, parse_overrides(overrides)) if isinstance(what, GenerativeModel) else split(overrides)
    )
    _check_sections(rest)
    judged = [change for change in rest if change.section in ("data", "evaluate")]
    context = context_for(data, judged, reporter=reporter)
    spec = context.dataset.spec if not isinstance(what, GenerativeModel) and is_external(what) else None
    reporter.stage("model", _name(what))
    subject = open_subject(what, device="cpu", weights=weights, options=options, spec=spec)
    assert isinstance(subject.runner, GenerativeModel)
    cut_with_own(context, subject.runner)
    chosen: dict[str, Any] = {"seed": seed, **({} if n is None else {"n": n})}
    left: Any = [change for change in rest if change.section != "data"]
    run = open_given(
        subject.runner,
        context,
        out or "compressed",
        plan=plan,
        evaluate=chosen | ({} if features is None else {"features": tuple(features)}),
        export={"engine": engine, "threads": threads, "torch_compile": torch_compile, "repeats": rounds},
        seed=seed,
        overrides=left,
        reporter=reporter,
    )
    tell_lacking(run)
    with run.run.hold():
        TrainStage().run(run)
        return _to_the_end(run)


def _of_run(what: Any, overrides: Overrides, reporter: Reporter) -> dict[str, Any]:
    context = open_run(what, overrides, None, reporter)
    if context.recipe.compress is None:
        raise CallError("the recipe has no 'compress' section, so there is nothing to do; add its 'steps'")
    with context.run.hold():
        as_trained(context)
        return _to_the_end(context)


def _to_the_end(context: RunContext) -> dict[str, Any]:
    carry_out(context, (EvaluateStage(), CompressStage(), ExportStage(), VerdictStage(), ReportStage()))
    return summary(context.run)


def _name(what: Any) -> str:
    return what.name if isinstance(what, GenerativeModel) else str(what)


def _check_sections(overrides: Sequence[Override]) -> None:
    known = ("compress", "data", "evaluate", "export")
    for change in overrides:
        if change.section not in known:
            raise CallError(
                f"'{change}': a model of no run has the sections 'model', {', '.join(map(repr, known))} only"
            )

"""Evaluate: what a model, a bundle on its engine, or samples that any program made can do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from niwaki.api.progress import with_progress
from niwaki.core.contract import CallError
from niwaki.core.store import jsonable
from niwaki.recipe import Override, Overrides, is_recipe, parse_overrides
from niwaki.report.records import EvaluationRecord
from niwaki.workflow.context import EvaluationContext, as_overrides
from niwaki.workflow.judging import Judgement, section_parts
from niwaki.workflow.notebook.answers import Evaluation
from niwaki.workflow.own_tokenizer import answering, cut_with_own
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.run_context import open_run
from niwaki.workflow.sharing.shared import serve_where_not_first, shared
from niwaki.workflow.stages.evaluate import EvaluateStage
from niwaki.workflow.stages.train import as_trained
from niwaki.workflow.subjects.asked import judge_subject
from niwaki.workflow.subjects.data import context_of
from niwaki.workflow.subjects.external import is_external, is_factory, split
from niwaki.workflow.subjects.samples import Origin
from niwaki.workflow.subjects.subject import Subject, kind_of, open_subject, refuse_for_others
from niwaki.workflow.workers import launched_outside

__all__ = ["evaluate"]


@with_progress
def evaluate(
    what: Any,
    overrides: Overrides = (),
    *,
    data: Any = None,
    features: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    against: str | Path | None = None,
    resize: bool = False,
    recipe: str | Path | None = None,
    engine: str = "auto",
    memory: int | str | None = None,
    weights: str | Path | None = None,
    n: int | None = None,
    seed: int | None = None,
    devices: int = 1,
    cache: str | Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """The evaluation of a run's trained model (kept in its `evaluation.json`), of a model of no run (in
    memory, saved, a factory, a pipeline's folder), of a bundle on `engine`, of a folder of images, of arrays.

    data:     what those of no run answer to: a source (`digits`, `folder:photos`), a recipe or a run
              (`recipe` is the same), a loaded data set; a run is then judged by it too, and nothing is kept
    features: names of the extractors, metrics: of the metrics; default: the recipe's
    against:  something else of these kinds: both are judged, and compared as `compare` does, `against` being
              the side before
    resize:   bring images of another size to that of the data
    engine, memory: of a bundle; `memory` is bytes or "32MB": `engine="auto"` takes one that needs no more
    weights:  a safetensors file with a factory's weights; "random" for those that it draws by chance
    n, seed:  samples that are judged, and their seed; cache: where extractors are kept
    devices:  processes that share the samples, one device each; the figures are those of one process
    Raises CallError for samples without data, of another shape or with NaN, an empty folder, unknown names;
    NiwakiError for a run without a trained model.
    """
    reporter = reporter or Quiet()
    changes: list[str | Override] = [*parse_overrides(overrides), *as_overrides(features, metrics, n, seed)]
    where = recipe if data is None else data
    if against is not None:
        if devices > 1:
            raise CallError("devices share the samples of one model; evaluate each side, then compare")
        from niwaki.api.compare import compare

        if is_recipe(what):
            raise CallError("a recipe is compared by its run: give the run's path")
        if weights is not None or is_factory(what) or is_factory(against):
            raise CallError(
                f"compare factories by `niwaki compare {against} {what}`, which takes the weights of each"
            )
        return compare(
            against, what, changes, data=where, resize=resize, engine=engine, memory=memory, reporter=reporter
        )  # fmt: skip
    kind = None if is_recipe(what) else kind_of(what)
    if kind is None or (kind == "run" and where is None):
        if not is_recipe(what):
            _refuse(what, where, engine, memory, weights)
        opening = {"device": "auto"}
        serve_where_not_first(what, **opening)
        context = open_run(what, changes, None, reporter)
        stage = EvaluateStage()
        with context.run.hold():
            as_trained(context)
            if launched_outside() or not stage.holds(context):
                with shared(context.model, context.run.path, devices, **opening):
                    stage.run(context)
        return Evaluation(jsonable(EvaluationRecord.read(context.run.path)))
    if is_external(what) and devices > 1:
        raise CallError(f"{what} is made by one process; save it as a model first, or leave devices out")
    serve_where_not_first(what, engine=engine, memory=memory)
    options: dict[str, Any] = {}
    rest: Overrides = changes
    if is_external(what):
        options, rest = split(changes)
    place = None if cache is None else Path(cache)
    context_ = context_of([what], where, rest, reporter, place)
    options, spec = answering(what, context_, options)
    subject = open_subject(what, engine=engine, memory=memory, weights=weights, options=options, spec=spec)
    cut_with_own(context_, subject.runner)
    if subject.runner is None:
        judgements, origin = judge_subject(subject, context_, resize=resize)
    else:
        with shared(subject.runner, what, devices, engine=engine, memory=memory):
            judgements, origin = judge_subject(subject, context_, resize=resize)
    return record_of(judgements, subject, origin, context_)


def record_of(
    judgements: list[Judgement], subject: Subject, origin: Origin, context: EvaluationContext
) -> dict[str, Any]:
    """The record of something that no run keeps, its metrics under what it is called."""
    parts = section_parts(judgements, subject.side)
    found: dict[str, Any] = {
        "n": judgements[0].evidence.n,
        "seed": context.config.seed,
        subject.side: parts.pop("evaluation", {}),
        **parts,
        "source": origin.to_json(),
        "audit": [finding.to_json() for finding in context.dataset.audit.said],
    }
    return Evaluation({**found, "engine": subject.engine} if subject.engine else found)


def _refuse(what: Any, data: Any, engine: str, memory: int | str | None, weights: Any) -> None:
    """What makes no sense for a recipe's run."""
    path = Path(what)
    if path.is_file() and path.suffix not in (".yaml", ".yml"):
        raise CallError(
            f"{what} holds no samples; give a run, a bundle, a folder of images, an .npz or an .npy"
        )
    refuse_for_others(what, engine, memory)
    if weights is not None:
        raise CallError(f"--weights is for package.module:function, and {what} is none")
    if data is not None:
        raise CallError(
            f"{what} does not exist"
            if not path.exists()
            else f"{what} is a recipe, which names its own data; leave --data out"
        )

"""Trying a candidate: its plan is carried out as far as it is to be trained, and judged by validation
samples."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from niwaki.compression import CompressConfig, compress
from niwaki.compression.config import PruneConfig, QuantizeConfig, StepConfig
from niwaki.compression.plan import Compressed
from niwaki.compression.search.choices import Choices, steps_of
from niwaki.core.contract import NiwakiError, Runner
from niwaki.data.inputs import split_inputs
from niwaki.workflow.engine_choice import engine_beforehand, engine_of
from niwaki.workflow.reporter import counter
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.state import Search
from niwaki_runtime import load as load_bundle

__all__ = ["bundle_of", "carry_out", "learnt_directory", "plan_of", "shapes_alone", "try_candidate"]

_FEW = 32
"""Samples that ranges of activations are taken from where nothing depends on them."""


def plan_of(search: Search, candidate: Candidate, *, exports: bool = True) -> CompressConfig:
    """As a recipe says it."""
    steps = steps_of(candidate.choices, search.template, candidate.trained)
    if not exports and steps and steps[-1].kind == "pack":
        steps = steps[:-1]  # it changes no sample
    return CompressConfig(steps=steps, measure=False, batches=search.budget.batches)


def shapes_alone(step: StepConfig) -> StepConfig:
    """The same layers and types without what only makes their values better: least squares after a cut, and
    rounding that minimizes errors of outputs, both of which need many samples of the model."""
    if isinstance(step, PruneConfig):
        return step.model_copy(update={"refit": False})
    if isinstance(step, QuantizeConfig):
        few = min(step.calibration, _FEW)
        return step.model_copy(update={"method": "nearest", "correct": False, "calibration": few})
    return step


def carry_out(
    search: Search,
    candidate: Candidate,
    *,
    exports: bool,
    workdir: Path | None = None,
    values: bool = True,
) -> Compressed:
    """Its plan, of which finished steps are found again. Raises NiwakiError where a step fails.

    values: whether the weights matter; where they do not, nothing is spent on them
    """
    run = search.run
    plan = plan_of(search, candidate, exports=exports)
    if not values:
        plan = plan.model_copy(update={"steps": tuple(map(shapes_alone, plan.steps))})
    workdir = workdir or search.directory(candidate)
    _take_learnt(search, candidate.choices, workdir)
    extractor = None
    if any(step.needs_extractor for step in plan.steps):
        extractor = run.extractors[0]
    return compress(
        run.model,
        run.dataset,
        plan,
        workdir=workdir,
        seed=run.recipe.seed,
        condition=split_inputs(run.model, run.dataset.train),
        engine=engine_beforehand(run.recipe.export),
        extractor=extractor,
        progress=counter(run.reporter),
        bundle=exports,
        reference=search.reference,
    )


def learnt_directory(search: Search, choices: Choices) -> Path:
    """Where fewer evaluations are learnt that all candidates with them share: halvings, which go on from each
    other, in one place."""
    config = search.template.distill
    method = config.method if config is not None else ""
    return search.path / "learnt" / (method if method == "progressive" else f"{method}-{choices.evaluations}")


def _take_learnt(search: Search, choices: Choices, workdir: Path) -> None:
    """The steps that a candidate begins with as those that are carried out already. Files of a finished step
    are never written to, so that they need not lie there twice."""
    for k in range(len(choices.distilled)):
        name = f"{k + 1}-distill"
        known, here = learnt_directory(search, choices) / "steps" / name, workdir / "steps" / name
        if (known / "record.json").exists() and not here.exists():
            shutil.copytree(known, here, copy_function=_linked)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def try_candidate(search: Search, candidate: Candidate, *, n: int | None = None) -> Candidate:
    """Carry it out and measure what it loses; where that fails it says why. It is kept either way."""
    began = time.monotonic()
    try:
        model = search.run.model
        if steps_of(candidate.choices.without(packed=False), search.template, candidate.trained):
            made = carry_out(search, candidate, exports=False)
            model, candidate.each = made.model, _each(made, candidate.each)
        candidate.losses = search.rehearsal.losses(model, n=n)
        candidate.bundled = False
        candidate.history = (*candidate.history, (sum(candidate.trained), candidate.worst))
    except NiwakiError as error:
        candidate.reason, candidate.losses = str(error), {}
    candidate.seconds += time.monotonic() - began
    candidate.at = search.clock.spent
    search.enter(candidate)
    return candidate


def _each(made: Compressed, before: float) -> float:
    """Seconds of a step of the last fine-tuning; the same as before where there was none."""
    taught = [r for r in made.records if r.kind == "finetune" and not r.idle]
    return taught[-1].seconds / max(taught[-1].settings["steps"], 1) if taught else before


def bundle_of(search: Search, path: Path) -> Runner:
    """A bundle on the engine that figures are taken on."""
    export = search.run.recipe.export
    return load_bundle(
        path, engine=engine_of(export, path), precision=export.precision, threads=export.threads
    )

"""Trying candidates: their plans are carried out as far as they are to be trained, and judged by validation
samples.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from niwaki.compression import CompressConfig
from niwaki.compression.config import PruneConfig, QuantizeConfig, SamplingConfig, StepConfig
from niwaki.compression.plan import Compressed
from niwaki.compression.search.choices import Choices, steps_of
from niwaki.core.contract import NiwakiError, Runner
from niwaki.workflow.engine_choice import engine_of
from niwaki.workflow.searching.attempt import Attempt, Attempted, attempt, carried_out
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.state import Search
from niwaki_runtime import load as load_bundle

__all__ = [
    "bundle_of",
    "carry_out",
    "learnt_directory",
    "linked",
    "plan_of",
    "shapes_alone",
    "take_learnt",
    "try_all",
    "try_candidate",
]

_FEW = 8
"""Samples that ranges of activations are taken from where nothing depends on them."""


def plan_of(search: Search, candidate: Candidate, *, exports: bool = True) -> CompressConfig:
    """As a recipe says it."""
    steps = steps_of(candidate.choices, search.template, candidate.trained)
    if not exports and steps and steps[-1].kind == "pack":
        steps = steps[:-1]  # it changes no sample
    return CompressConfig(steps=steps, measure=False, batches=search.budget.batches)


def shapes_alone(steps: Sequence[StepConfig]) -> tuple[StepConfig, ...]:
    """The same layers and types without what only makes their values better: least squares after a cut,
    rounding that minimizes errors of outputs, a matched temperature, all of which need many samples of the
    model."""
    made: list[StepConfig] = []
    for step in steps:
        if isinstance(step, PruneConfig):
            made.append(step.model_copy(update={"refit": False}))
        elif isinstance(step, QuantizeConfig):
            few = min(step.calibration, _FEW)
            made.append(step.model_copy(update={"method": "nearest", "correct": False, "calibration": few}))
        elif not (isinstance(step, SamplingConfig) and step.temperature == "match"):
            made.append(step)
    return tuple(made)


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
    plan = plan_of(search, candidate, exports=exports)
    if not values:
        plan = plan.model_copy(update={"steps": shapes_alone(plan.steps)})
    workdir = workdir or search.directory(candidate)
    take_learnt(search, candidate.choices, workdir)
    return carried_out(search.run, plan, workdir, exports=exports, reference=search.rehearsal.reference)


def learnt_directory(search: Search, choices: Choices) -> Path:
    """Where fewer evaluations are learnt that all candidates with them share: halvings, which go on from each
    other, in one place."""
    config = search.template.distill
    method = config.method if config is not None else ""
    return search.path / "learnt" / (method if method == "progressive" else f"{method}-{choices.evaluations}")


def take_learnt(search: Search, choices: Choices, workdir: Path) -> None:
    """The steps that a candidate begins with as those that are carried out already. Files of a finished step
    are never written to, so that they need not lie there twice."""
    for k in range(len(choices.distilled)):
        name = f"{k + 1}-distill"
        known, here = learnt_directory(search, choices) / "steps" / name, workdir / "steps" / name
        if (known / "record.json").exists() and not here.exists():
            shutil.copytree(known, here, copy_function=linked)


def linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def try_candidate(search: Search, candidate: Candidate, *, n: int | None = None) -> Candidate:
    """Carry it out and measure what it loses; where that fails it says why. It is kept either way."""
    (tried,) = try_all(search, [candidate], n=n)
    return tried


def try_all(
    search: Search, candidates: Sequence[Candidate], *, n: int | None = None, blocks: bool = False
) -> Iterator[Candidate]:
    """Each as soon as it was tried; with workers all of them side by side, and nothing is under way any more
    when the first one is there.

    n:      samples that losses are measured on
    blocks: whether these may be fewer, where blocks of them tell enough
    Raises NiwakiError where the disk is full: what was tried until then is kept.
    """
    asked = []
    for candidate in candidates:
        search.begin(candidate)
        take_learnt(search, candidate.choices, search.directory(candidate))
        steps = steps_of(candidate.choices.without(packed=False), search.template, candidate.trained)
        plan = plan_of(search, candidate, exports=False) if steps else None
        asked.append(Attempt(plan, search.directory(candidate), n or search.rehearsal.n, blocks))
    if search.workers is not None:
        found = iter(search.workers.attempts(asked))
    else:
        found = (attempt(search.run, search.rehearsal, one) for one in asked)
    full = ""
    for candidate, result in zip(candidates, found, strict=True):
        if result.full:
            full = result.full
            continue
        _enter(search, candidate, result)
        yield candidate
    if full:
        raise NiwakiError(full)


def _enter(search: Search, candidate: Candidate, result: Attempted) -> None:
    candidate.losses, candidate.reason = dict(result.losses), result.reason
    candidate.each, candidate.drawn = result.each or candidate.each, result.drawn
    candidate.judging = result.judging
    if result.losses:
        candidate.bundled = False
        candidate.history = (*candidate.history, (sum(candidate.trained), candidate.worst))
    candidate.seconds += result.seconds
    candidate.at = search.clock.spent
    search.enter(candidate)


def bundle_of(search: Search, path: Path) -> Runner:
    """A bundle on the engine that figures are taken on."""
    export = search.run.recipe.export
    return load_bundle(
        path, engine=engine_of(export, path), precision=export.precision, threads=export.threads
    )

"""The beginning of a search: how many samples there is time for, what can be chosen, what judges."""

from __future__ import annotations

import time
from dataclasses import replace

from niwaki.compression import CompressConfig
from niwaki.compression.arithmetic import passes
from niwaki.compression.search.budget import Budget
from niwaki.compression.search.evaluations import fewer_evaluations, sampled
from niwaki.compression.search.units import Units
from niwaki.core.contract import CallError, GenerativeModel, NiwakiError
from niwaki.core.store import kept_json
from niwaki.data.inputs import make_inputs
from niwaki.recipe import Recipe, read_plan
from niwaki.report.records import EvaluationRecord
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.run_directory import RunDirectory
from niwaki.workflow.searching.affording import Afforded, afford, affordable
from niwaki.workflow.searching.clock import Clock
from niwaki.workflow.searching.measuring import measure_before
from niwaki.workflow.searching.rehearsal import Rehearsal
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.template import template_of
from niwaki_runtime.programs import SAMPLING

__all__ = ["as_left", "begin", "within_time"]

_BATCH, _LONG = 16, 5.0
"""Samples that are timed together; seconds of one after which a batch of them is not tried."""
_READ, _MANY = 32, 10_000
"""Real items that are read to be timed; more than the samples of a few figures beside a verdict."""
_SEED = 9 << 40
"""Of validation samples: apart from all that is evaluated, calibrated, checked and weighed with."""


def as_left(run: RunContext) -> RunContext:
    """The same, its recipe with the plan that an earlier search has left there: where this one finds nothing,
    recipe and bundle still belong together."""
    file = run.run.path / "plan.yaml"
    if not file.exists():
        return run
    return _with_recipe(run, run.recipe.model_copy(update={"compress": read_plan(file)}))


def _with_recipe(run: RunContext, recipe: Recipe) -> RunContext:
    made = RunContext(
        RunDirectory.create(recipe, run.run.path), run.reporter, given=run.given, data=run.dataset
    )
    made.cache = run.cache
    if "extractors" in vars(run):  # they look at the samples in the same way
        made.extractors = run.extractors
    return made


def within_time(run: RunContext, clock: Clock) -> tuple[RunContext, Afforded]:
    """How many samples there is time for, and the run with as many pairs for its verdict: of an earlier
    evaluation those that it has, unless there is time for twice as many."""
    rehearsal = Rehearsal(run, run.model, n=0, seed=_SEED + run.seed)
    least = rehearsal.judges[0].fewest(rehearsal.dataset)
    if not isinstance(run.model, GenerativeModel):
        return run, afford(0.0, run.n, clock.seconds, least=least)
    run.reporter.stage("search", "what a sample takes")
    each, reading = _seconds_of_a_sample(run), _seconds_of_reading(rehearsal)
    found = afford(each, run.n, clock.seconds, least=least, reading=reading)
    known = EvaluationRecord.read(run.run.path)
    if known is not None and found.verdict < 2 * known.n <= 2 * run.n:
        found = replace(found, verdict=known.n)
    if found.verdict >= run.n:
        return run, found
    run.reporter.note(
        f"a sample of the model takes {each:.2g} s: the verdict rests on {found.verdict:,} pairs instead of "
        f"{run.n:,}, which would need --time {int(run.n / found.verdict * clock.seconds / 60 + 1)}m"
    )
    changed = run.recipe.evaluate.model_copy(update={"n": found.verdict})
    return _with_recipe(run, run.recipe.model_copy(update={"evaluate": changed})), found


def _seconds_of_a_sample(run: RunContext) -> float:
    """In large batches; of a diffusion from the fewest evaluations that are tried, for all are alike."""
    few, whole = fewer_evaluations(run.model), passes(run.model)
    model = sampled(run.model, few[-1], None) if few else run.model
    took = 0.0
    for n in (1, _BATCH):  # the first one warms up, and is enough where a single sample is long
        inputs, began = make_inputs(model, SAMPLING, n, run.dataset.validation), time.monotonic()
        model.run(SAMPLING, n, seed=0, inputs=inputs, batch=n)
        took = (time.monotonic() - began) / n
        if took > _LONG:
            break
    return took * whole / passes(model)


def _seconds_of_reading(rehearsal: Rehearsal) -> float | None:
    """Of a real item; None where the model is judged by samples that it makes."""
    judge = rehearsal.judges[0]
    if judge.samples_made(_MANY) == _MANY:
        return None
    took = 0.0
    for _ in range(2):  # the first time warms up
        began = time.monotonic()
        try:
            found = judge.evidence(rehearsal.before, rehearsal.dataset, "test", _READ, rehearsal.seed)
        except CallError:  # it has nothing to say of these data; whether another one has, the evaluation says
            return None
        took = (time.monotonic() - began) / found.n
    return took


def begin(
    run: RunContext, budget: Budget, clock: Clock, plan: CompressConfig | None, afforded: Afforded
) -> Search:
    """plan: the recipe's own, which says how candidates are ranked, trained and rounded"""
    run.reporter.stage("search", "what can be chosen")
    template = template_of(run.model, plan, run.recipe.train, seed=run.seed)
    units = Units(run.model, template, seed=run.seed, memory=budget.memory)
    if not units.layers and not units.couplings and not units.blocks:
        raise NiwakiError(
            f"nothing of '{run.model.name}' can be chosen: no layer can be cut or left out, and none can be "
            "rounded (it is quantized already, or holds no layers that engines compute on integers)"
        )
    least, checked = afforded.least, afforded.checked
    rehearsal = Rehearsal(run, run.model, n=least, seed=_SEED + run.seed, checked=checked)
    found = Search(run, budget, clock, template, units, rehearsal, afforded=afforded)
    found.reopen()
    found.limits = budget.resolved(measure_before(found))
    found.tell_asked()
    rehearsal.n = kept_json(
        found.path / "samples.json",
        lambda: affordable(rehearsal, afforded.least, afforded.most),
        lambda known: isinstance(known, int),
    )
    return found

"""The end of a search: what ships, its verdict on the test split, and the record."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from niwaki.compression import CompressConfig
from niwaki.core.store import write_text
from niwaki.deployment import bundle_bytes
from niwaki.recipe import ExportConfig
from niwaki.report.records import EvaluationRecord
from niwaki.training import Interrupted
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.run_directory import RunDirectory
from niwaki.workflow.searching.candidate import NEAR, Candidate, excess
from niwaki.workflow.searching.explaining import Explanation
from niwaki.workflow.searching.finals import confirm
from niwaki.workflow.searching.holding import drop_what_waits_for_nothing, held_bytes
from niwaki.workflow.searching.measuring import measure_before
from niwaki.workflow.searching.pricing import Prices
from niwaki.workflow.searching.ranking import ranking_text
from niwaki.workflow.searching.record import SearchRecord, rows_of
from niwaki.workflow.searching.refusal import refusal
from niwaki.workflow.searching.repairing import Remedy
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import plan_of
from niwaki.workflow.searching.weights import Weights
from niwaki.workflow.stages.compress import CompressStage
from niwaki.workflow.stages.evaluate import EvaluateStage
from niwaki.workflow.stages.export import ExportStage
from niwaki.workflow.stages.report import ReportStage
from niwaki.workflow.stages.train import TrainStage
from niwaki.workflow.stages.verdict import VerdictStage

__all__ = ["Explained", "brief_plan", "choose", "comfortable", "finish", "ready", "ship", "shipped_export"]

_FINALISTS = 3
_COMFORTABLE = 0.7
"""Margins that the interval of the worse axis ends below, for the search to end before its time."""
_REPEATS = 15
"""Timed calls of what ships, at most."""
_FEWEST, _TIMING = 5, 0.02
"""Timed calls of what ships at least; share of the whole time beyond which so many calls of the model make it
be timed at the batch sizes of the budget alone."""


@dataclass(frozen=True)
class Explained:
    """Why nothing was found at first, and what would help; empty where that was not asked."""

    explanation: Explanation | None = None
    remedies: tuple[Remedy, ...] = ()


def choose(found: Search, *, beyond: bool) -> Candidate | None:
    """The candidate that ships: measured, within the budget, nothing lost.

    beyond: where there is none, one that exceeds the budget
    """
    if (best := ready(found)) is not None:
        return best
    finalists = _near(found)[:_FINALISTS]
    with suppress(Interrupted, KeyboardInterrupt):
        if finalists and finalists[0].worst < NEAR:
            confirm(found, finalists, seconds=5.0)
    if (best := ready(found)) is not None or not beyond:
        return best
    lossless = [c for c in found.candidates.values() if c.lossless]
    return min(lossless, key=lambda c: excess(c, found.limits), default=None)


def _near(found: Search) -> list[Candidate]:
    """Those within the budget that were not exported yet, the best first."""
    near = [c for c in found.candidates.values() if c.losses and not c.bundled and c.fits(found.limits)]
    return sorted(near, key=lambda c: c.worst)


def ready(found: Search) -> Candidate | None:
    """The safest of the bundles that were measured within the budget and have lost nothing."""
    good = [c for c in found.candidates.values() if c.bundled and c.lossless and c.fits(found.limits)]
    return min(good, key=lambda c: c.sure, default=None)


def comfortable(candidate: Candidate) -> bool:
    """Whether it has lost so little that more training is not worth its time: validation samples are few, and
    the best of several plans looks better on them than it is."""
    return candidate.lossless and candidate.sure < _COMFORTABLE


def finish(
    found: Search,
    chosen: Candidate | None,
    prices: Prices | None,
    weights: Weights,
    explained: Explained,
    *,
    stopped: bool,
    grow: Callable[[], Sequence[Any]] = tuple,
) -> SearchRecord:
    """Carry the chosen plan out to the verdict and the report, and write the record: also of a refusal.

    grow: called once the plan of the budget has shipped: further sizes
    """
    values: dict[str, Any] = {
        "run": str(found.run.run.path),
        "budget": str(found.budget),
        "limits": dict(found.limits),
        "before": {key: cost for key, cost in measure_before(found).items() if "," not in key},
        "candidates": rows_of(found.candidates, found.limits, tuple(found.limits)),
        "weights": len(weights.rows),
        "seconds": found.clock.seconds,
        "stopped": stopped,
        "workers": found.asked,
    }
    if prices is not None:
        values["prices"] = {f"latency of {n}": m.quality.text for n, m in prices.latency.items()}
        values["prices"]["size"] = prices.size.quality.text
        if prices.memory is not None:
            values["prices"]["memory"] = prices.memory.quality.text
    values["ranking"] = ranking_text(found.candidates.values(), weights, seed=found.run.seed)
    if explained.explanation is not None:
        values["explanation"] = explained.explanation.to_json()
        values["remedies"] = [one.to_json() for one in explained.remedies]
    if chosen is None:
        values["refusal"] = refusal(found, EvaluationRecord.read(found.run.run.path))
        if explained.remedies:
            values["refusal"]["remedy"] = explained.remedies[0].text
        return _written(found, found.run, values)
    plan = plan_of(found, chosen)
    made = ship(found, chosen, plan, found.run.run.path)
    size = bundle_bytes(made.run.bundle)
    values |= {
        "chosen": chosen.name,
        "meets": chosen.fits(found.limits) and size <= found.limits.get("size", math.inf),
        "plan": brief_plan(plan)["steps"],
        "verdict": made.run.stage("verdict").get("verdict", {}),
        "bundle": str(made.run.bundle),
    }
    values["sizes"] = [vars(member) for member in grow()]
    return _written(found, made, values)


def _written(found: Search, run: RunContext, values: dict[str, Any]) -> SearchRecord:
    """The record and the report, which shows it."""
    drop_what_waits_for_nothing(found, _near(found)[:_FINALISTS])
    held = held_bytes(found.run.run.path / "study")
    spent = round(found.clock.spent, 1)
    record = SearchRecord(**values, report=str(run.run.report), spent=spent, held=held)
    record.write(run.run.path)
    ReportStage().run(run, again=True)
    run.run.adopt()
    return record


def brief_plan(plan: CompressConfig) -> dict[str, Any]:
    """As a person would write it: what differs from the defaults."""
    steps = [{"kind": s.kind, **s.model_dump(mode="json", exclude_defaults=True)} for s in plan.steps]
    return {**plan.model_dump(mode="json", exclude_defaults=True), "steps": steps}


def shipped_export(found: Search) -> ExportConfig:
    """How the run of the result takes its figures: peak memory only where the budget asks for it."""
    export = found.run.recipe.export
    memory = export.memory and found.budget.memory
    dear = found.afforded.each * sum(export.batches) * _FEWEST > _TIMING * found.clock.seconds
    batches = found.budget.batches if dear else export.batches
    repeats = min(_FEWEST if dear else _REPEATS, export.repeats)
    return export.model_copy(update={"memory": memory, "repeats": repeats, "batches": batches})


def ship(found: Search, chosen: Candidate, plan: CompressConfig, place: Path) -> RunContext:
    """The chosen plan as that of a run, to its verdict; steps that the search carried out are found again.

    place: of the run: the search's own, or another one
    """
    run, own = found.run, place == found.run.run.path
    changed: dict[str, Any] = {"compress": plan, "export": shipped_export(found)}
    if not own:
        changed["name"] = f"{run.recipe.name}-{place.name}"
    recipe = run.recipe.model_copy(update=changed)
    directory = RunDirectory.create(recipe, place)
    made = RunContext(directory, run.reporter, given=run.model, data=run.dataset)
    made.extractors, made.cache = run.extractors, run.cache
    with nullcontext() if own else directory.hold():
        steps = directory.compressed / "steps"
        shutil.rmtree(steps, ignore_errors=True)
        if (found.directory(chosen) / "steps").is_dir():
            shutil.copytree(found.directory(chosen) / "steps", steps)
        text = yaml.safe_dump({"compress": brief_plan(plan)}, sort_keys=False)
        write_text(place / "plan.yaml", f'# Found by: niwaki search --budget "{found.budget}"\n{text}')
        for stage in (TrainStage(), EvaluateStage(), CompressStage(), ExportStage(), VerdictStage()):
            stage.run(made)
        if not own:
            ReportStage().run(made)
    return made

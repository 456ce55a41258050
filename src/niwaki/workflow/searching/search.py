"""The search, phase by phase: prices, weights, candidates, halving, finals, the verdict on the test split.

| part of the time | phase |
|---|---|
| first | the model's own costs, margins on validation samples, the test split's evidence of the model |
| up to 15 % | plans are exported untrained and measured: prices of all others |
| up to 15 % | every layer alone is cut or rounded: weights of the allocation |
| up to 35 % of the rest | fewer evaluations of a diffusion are learnt, once for all candidates |
| the rest | candidates of the budget are trained and judged, by successive halving |
| the end | bundles of the best ones, timed in turns, judged on fresh samples; then the test split, once |
"""

from __future__ import annotations

from niwaki.compression.search.budget import Budget, cost_text
from niwaki.core.contract import NiwakiError
from niwaki.deployment.timing import seconds_of_rounds
from niwaki.report.records import EvaluationRecord
from niwaki.training import Interrupted
from niwaki.workflow.executors import PLACES, need
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.searching.beginning import as_left, begin, within_time
from niwaki.workflow.searching.candidate import NEAR, Candidate, excess
from niwaki.workflow.searching.clock import Clock
from niwaki.workflow.searching.explaining import explain
from niwaki.workflow.searching.family import Member, grow, names, widths
from niwaki.workflow.searching.fewer import learn, sampled_ways
from niwaki.workflow.searching.finals import confirm
from niwaki.workflow.searching.finishing import Explained, choose, comfortable, finish, ready, shipped_export
from niwaki.workflow.searching.foreseeing import foreseen
from niwaki.workflow.searching.halving import halve
from niwaki.workflow.searching.measuring import latency_key, measure_before
from niwaki.workflow.searching.pricing import Prices, price
from niwaki.workflow.searching.proposing import RELAXED, Proposals, in_order, propose
from niwaki.workflow.searching.ranking import ranking_text
from niwaki.workflow.searching.record import SearchRecord, front_of
from niwaki.workflow.searching.repairing import remedies, repair
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import try_candidate
from niwaki.workflow.searching.untestable import untestable_text
from niwaki.workflow.searching.weighing import weigh
from niwaki.workflow.searching.weights import Weights
from niwaki.workflow.searching.workers import Workers
from niwaki.workflow.stages.evaluate import EvaluateStage
from niwaki.workflow.stages.train import TrainStage

__all__ = ["search"]

_PRICES, _WEIGHTS = 0.15, 0.15
"""Shares of the whole time."""
_FURTHER = 0.25
"""Share of what is left then, for the further sizes of a family."""
_REPAIRS = 0.15
"""Share of what is left then, for undoing one group at a time."""
_LEARN = 0.35
"""Share of what is left after them, for learning fewer evaluations."""
_FORESEEING = 0.1
"""Share of what is left then, for cutting plans untrained where judging them is dear."""
_DEAR = 0.02
"""Share of the whole time that judging an untrained plan may take where it exceeds the budget."""
_UNTRAINED = 2
"""Plans beside the int8 one that are tried untrained at first: training begins anew at a full rate, and may
harm what had lost next to nothing."""
_PROCESSES, _PROCESS = 9, 4.0
"""Processes that measure peak memory, and seconds of each, about."""
_BEGINNINGS = 4
"""Times as long as its beginning that a search needs at least, about."""
_REPORT = 6.0
"""Seconds of what is quick, about."""


def search(
    run: RunContext,
    budget: Budget,
    seconds: float,
    *,
    apply: bool = False,
    sizes: int = 1,
    proposals: Proposals = propose,
    workers: int = 1,
    on: str = PLACES[0],
) -> SearchRecord:
    """Find a plan that meets the budget and loses nothing, and leave its bundle, verdict and report in the
    run.

    run:   of a given model; its recipe's plan says how candidates are ranked, trained and rounded
    apply: where no plan of the budget loses nothing, the cheapest remedy is tried though it exceeds it
    sizes: of the family: beside the plan of the budget those of budgets twice, four times … as wide
    proposals: (search, prices, weights, by how much the budget may be wider) → candidates, the most promising
               first
    workers: candidates that are tried side by side, each in a process of one thread; 1 tries them here, one
             after another
    on:    where these processes are (`niwaki.workflow.executors`)
    Raises NiwakiError where nothing of the model can be chosen, or no judge can tell a loss.
    """
    names(sizes)  # refused before anything is done
    need(on, workers)
    clock, plan = Clock(seconds), run.recipe.compress
    run = as_left(run)
    with run.run.hold():
        TrainStage().run(run)
        run, afforded = within_time(run, clock)
        EvaluateStage().run(run)
        found = begin(run, budget, clock, plan, afforded)
        _tell(found)
        _in_time(clock)
        further = 0.0
        several = workers > 1 or on != PLACES[0]
        stopped, prices, weights, explained = False, None, Weights(), Explained()
        try:
            prices = price(found, clock.share(_PRICES))
            clock.reserve = 0.5 * (1 + sizes) * _end(found, prices)
            for k, model in prices.latency.items():
                run.reporter.note(f"predicted latency of {k}: {model.quality.text}")
            run.reporter.note(f"predicted size: {prices.size.quality.text}")
            if prices.memory is not None:
                run.reporter.note(f"predicted peak memory: {prices.memory.quality.text}")
            weighing = clock.share(_WEIGHTS, 0.4)
            sampled = sampled_ways(found)
            weights = weigh(found, weighing, sampled)
            found.ways = (*sampled, *learn(found, weights, _LEARN * max(clock.left, 0.0)))
            if several:
                found.asked = workers
                found.workers = Workers.begin(found.path, found.run, found.rehearsal, on, workers)
            repairs = _REPAIRS * clock.left
            further = _FURTHER * clock.left * (sizes > 1)
            clock.reserve += repairs + further
            run.reporter.stage("search", "plans within the budget")
            wider = widths(sizes) if sizes > 1 else RELAXED
            pool = proposals(found, prices, weights, wider)
            pool = foreseen(found, pool, weights, _FORESEEING * max(clock.left, 0.0))
            _candidates(found, prices, pool)
            clock.reserve -= repairs
            if text := ranking_text(found.candidates.values(), weights, seed=run.seed):
                run.reporter.note(text)
            explained = _explain(found, prices, weights, apply=apply)
        except (Interrupted, KeyboardInterrupt):
            stopped, further = True, 0.0
            found.close_workers()
            run.reporter.note("stopped; the best that was found until now is finished")
            if not any(c.lossless for c in found.candidates.values()):
                try_candidate(found, _safe(found))
        except BaseException:
            found.close_workers()
            raise

        def further_sizes() -> list[Member]:
            return [] if prices is None else grow(found, prices, weights, sizes, seconds=further)

        try:
            chosen = choose(found, beyond=stopped or apply)
            clock.reserve = 0.0
            return finish(found, chosen, prices, weights, explained, stopped=stopped, grow=further_sizes)
        finally:
            found.close_workers()


def _in_time(clock: Clock) -> None:
    """Raises NiwakiError where the time is over before the first plan: nothing is begun that cannot end."""
    if clock.left <= 0:
        raise NiwakiError(
            f"judging the model and measuring what it costs has taken {clock.spent:.0f} s of the "
            f"{clock.seconds:.0f} s that were given, and no plan was tried: give at least --time "
            f"{_BEGINNINGS * clock.spent:.0f}s; a second call goes on from there"
        )


def _tell(found: Search) -> None:
    """The budget in units, and what there is to choose."""
    before = measure_before(found)
    told = ", ".join(
        f"{key} {cost_text(key, limit)}" + (f" (now {cost_text(key, before[key])})" if key in before else "")
        for key, limit in found.limits.items()
    )
    found.run.reporter.note(f"budget: {told}")
    units, few = found.units, found.template.evaluations
    words = f"the width of {len(units.couplings)} groups of layers, the bits of {len(units.layers)} layers"
    if units.blocks:
        words += f", which of {len(units.blocks)} blocks are left out"
    if few:
        words += f", {', '.join(map(str, few))} network evaluations"
    if text := untestable_text(EvaluationRecord.read(found.run.run.path)):
        found.run.reporter.note(text)
    if "memory" in found.limits and units.live.peak:
        live = f"{cost_text('size', units.live.peak)}, at '{units.live.where}'"
        found.run.reporter.note(f"arrays of one sample that are live at once, in float32: {live}")
    found.run.reporter.note(f"to choose: {words}")
    if found.candidates:
        found.run.reporter.note(f"{len(found.candidates)} candidates of earlier calls are known")


def _end(found: Search, prices: Prices) -> float:
    """Seconds that the end will take, about: judging as long as that of the model took, two exports, timing
    three ways, and the report."""
    run, now = found.run, measure_before(found)
    judging = float(run.run.stage("evaluate").get("seconds") or 0.0)
    n, each = found.rehearsal.n, found.afforded.judged
    made, again = run.n * each, found.afforded.few(n) * each * found.afforded.renews(n)
    # The model's samples are there by then; a bundle's take as many passes as are tried at least.
    passes = min([found.units.passes, *found.template.evaluations]) / found.units.passes
    judging = max(judging - made, 0.0) + passes * (made + again) + again
    first = min(found.budget.batches)
    call = now[latency_key(first)] / 1e3
    calls = [3 * [call * max(1.0, batch / first / 4)] for batch in shipped_export(found).batches]
    timing = sum(seconds_of_rounds(each, rounds=shipped_export(found).repeats) for each in calls)
    memory = _PROCESSES * _PROCESS if shipped_export(found).memory else 0.0
    return judging + 2.0 * prices.each + timing + memory + _REPORT


def _candidates(found: Search, prices: Prices, pool: list[Candidate]) -> None:
    report = found.run.reporter
    known_inside = [c for c in found.candidates.values() if c.losses and c.fits(found.limits)]
    pool = in_order(known_inside, pool)
    inside = [c for c in pool if c.fits(found.limits)]
    report.note(f"{len(inside)} plans within the budget are promising, {len(pool) - len(inside)} near it")
    safe = _safe(found)
    safe.predicted = prices.predict(found.units.profile(safe.choices))
    known: set[str] = set()

    def tried(candidate: Candidate) -> None:
        keys = tuple(found.limits) or ("size", "latency")
        front = front_of(found.candidates, keys)
        if candidate.name in front and candidate.losses:
            fits = "within the budget" if excess(candidate, found.limits) <= 0 else "over the budget"
            text = f"front: {_line(candidate, keys)}, {fits} ({candidate.choices.origin})"
            if text not in known:
                known.add(text)
                report.note(text)

    def certain(candidate: Candidate) -> bool:
        confirm(found, [candidate], seconds=min(5.0, max(1.0, 0.05 * found.clock.seconds)))
        tried(candidate)
        return comfortable(candidate) and candidate.fits(found.limits)

    best = ready(found)
    if best is not None and comfortable(best):
        report.note("a plan of an earlier call meets the budget and has lost nothing")
        return
    for candidate in known_inside:
        if candidate.worst < 1.0 and not candidate.reason and certain(candidate):
            return
    dear = found.rehearsal.n * found.afforded.judged > _DEAR * found.clock.seconds
    for candidate in (safe, *[c for c in inside if _worth_trying_untrained(c, safe)][:_UNTRAINED]):
        if not candidate.losses and (candidate.fits(found.limits) or not dear):
            tried(try_candidate(found, candidate))
        if candidate.lossless and candidate.fits(found.limits) and certain(candidate):
            return
    halve(found, pool, tried, certain)


def _explain(found: Search, prices: Prices, weights: Weights, *, apply: bool) -> Explained:
    """Why the best plan within the budget loses something, and whether one group undone mends it."""
    tried = [c for c in found.candidates.values() if c.losses and c.trained]
    if ready(found) is not None or not tried:
        return Explained()
    best = min(tried, key=lambda c: (excess(c, found.limits) > 0, c.worst))
    if best.worst < 1.0 and best.fits(found.limits):
        return Explained()  # nothing to undo: with more samples it may be shown to have lost nothing
    explanation = explain(found, best, weights, seconds=0.5 * max(found.clock.left, 0.0))
    found.run.reporter.note(explanation.text)
    known = remedies(found, prices, best, explanation)
    for remedy in known:
        inside = excess(Candidate(remedy.choices, remedy.costs), found.limits) <= 0
        if found.clock.left <= best.seconds / max(len(best.history), 1) or not (inside or apply):
            break
        mended = repair(found, best, remedy)
        if mended.losses and mended.lossless and (apply or mended.fits(found.limits)):
            confirm(found, [mended], seconds=3.0)
            if mended.lossless:
                break
    return Explained(explanation, tuple(known))


def _worth_trying_untrained(candidate: Candidate, safe: Candidate) -> bool:
    """Whether it may have lost nothing untrained: little is expected, or nothing but weights is changed, to 8
    bits at least."""
    choices = candidate.choices
    if candidate.expected < NEAR:
        return not candidate.trained
    gone = choices.cuts or choices.dropped or choices.evaluations or choices.solver
    few = any(bits < 8 for bits in choices.bits.values())
    return not gone and not few and candidate.name != safe.name


def _safe(found: Search) -> Candidate:
    """What is nearly always lossless: 8 bits, nothing cut, not trained."""
    return found.known(found.units.uniform(0.0, 8, origin="int8, nothing cut"))


def _line(candidate: Candidate, keys: tuple[str, ...]) -> str:
    costs = ", ".join(
        f"{key} {cost_text(key, candidate.costs[key])}" for key in keys if key in candidate.costs
    )
    losses = ", ".join(f"{axis} {loss.value:+.2f}" for axis, loss in candidate.losses.items())
    return f"{costs}; loss in margins: {losses}"

"""Fewer evaluations as choices: those that are sampled, with the solver that stays nearest to the model, and
those that are learnt, which all candidates of as many evaluations have in common.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from itertools import pairwise

from niwaki.compression import CompressConfig, compress
from niwaki.compression.distillation.config import DistillConfig
from niwaki.compression.distillation.fewer_steps import diffusion_of
from niwaki.compression.search.choices import Choices, learning
from niwaki.compression.search.evaluations import distances
from niwaki.core.contract import NiwakiError
from niwaki.core.store import kept_json, read_json, write_json
from niwaki.data.inputs import split_inputs
from niwaki.workflow.estimates import Timed
from niwaki.workflow.reporter import counter
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import learnt_directory
from niwaki.workflow.searching.weighing import loss_of
from niwaki.workflow.searching.weights import RUINED, Weights, sampling_key

__all__ = ["learn", "sampled_ways"]

_PAIRS = 16
"""Samples that solvers are told apart by, of the same noise: differences between them are large."""
_LEAST = 40
"""Steps of a halving, below which it is not begun."""


def sampled_ways(search: Search) -> tuple[Choices, ...]:
    """Each number of evaluations that is tried, from most to fewest, with the solver whose fewest lie nearest
    to the samples that the model makes of the same noise."""
    few, solvers = search.template.evaluations, search.template.solvers
    if not few:
        return ()
    model, run = search.run.model, search.run

    def measured() -> dict[str, float]:
        run.reporter.stage("solvers", f"{few[-1]} evaluations by {', '.join(solvers)}")
        condition = split_inputs(model, run.dataset.train)
        return distances(model, few[-1], solvers, n=_PAIRS, condition=condition)

    found = kept_json(search.path / "solvers.json", measured)
    best = min(found, key=lambda name: found[name])
    told = ", ".join(f"{name} {far:.2f}" for name, far in found.items())
    run.reporter.note(
        f"{few[-1]} evaluations: {best} stays nearest to the model (distances of samples of the same noise, "
        f"in standard deviations: {told})"
    )
    solver = None if best == solvers[0] else best
    return tuple(Choices(evaluations=e, solver=solver, origin=f"{e} evaluations of {best}") for e in few)


def learn(search: Search, weights: Weights, seconds: float) -> tuple[Choices, ...]:
    """Fewer evaluations learnt in that time, once for all candidates, and what each of them loses by itself.

    By halvings each goes on from the one before, down to where too much is lost; other methods learn each
    number of evaluations from the model.
    """
    config, file = search.template.distill, search.path / "learnt.json"
    if config is None:
        return ()
    known = [Choices.from_json(row) for row in (read_json(file) if file.exists() else [])]
    timed = any(key.startswith(("latency", "evaluations")) for key in search.limits)
    halved, began, each = config.method == "progressive", time.monotonic(), 0.0
    for k, evaluations in enumerate(search.template.distilled):
        if any(c.evaluations == evaluations for c in known):
            continue
        if not timed or (known and max(weights.sampled(known[-1])) > RUINED):
            break
        if not each:
            each = _seconds_of_a_step(search, config)
        rounds = _rounds(search, known, search.template.distilled[k:], halved)
        left = seconds - (time.monotonic() - began)
        steps = min(_enough(search, config, halved), int(left / max(each, 1e-6) / sum(rounds)))
        if steps < _LEAST:
            search.run.reporter.note(
                f"no time to learn {evaluations} evaluations: a step of it takes {each:.2g} s"
            )
            break
        before = known[-1].distilled if halved and known else ()
        way = Choices(evaluations=evaluations, distilled=(*before, steps * rounds[0]))
        words = f"{evaluations} evaluations, {steps * rounds[0]:,} steps"
        search.run.reporter.stage("learning", words)
        try:
            weights.rows[sampling_key(way)] = _carried_out(search, way, config)
        except NiwakiError as error:
            search.run.reporter.note(f"{evaluations} evaluations cannot be learnt: {error}")
            break
        known.append(way.without(origin=words))
        write_json(file, [c.to_json() for c in known])
        f, d = weights.sampled(way)
        search.run.reporter.note(f"{words}: {f:+.2f} margins of fidelity, {d:+.2f} of diversity lost")
    return tuple(known)


def _carried_out(search: Search, way: Choices, config: DistillConfig) -> tuple[float, float]:
    """Margins that the model loses with it."""
    run = search.run
    plan = CompressConfig(steps=tuple(learning(way, config)), measure=False, batches=search.budget.batches)
    made = compress(
        run.model,
        run.dataset,
        plan,
        workdir=learnt_directory(search, way),
        seed=run.recipe.seed,
        condition=split_inputs(run.model, run.dataset.train),
        progress=counter(run.reporter),
        bundle=False,
        reference=search.rehearsal.reference,
    )
    return loss_of(search, made.model)


def _rounds(search: Search, known: list[Choices], ahead: Sequence[int], halved: bool) -> list[int]:
    """Trainings of each number of evaluations: halvings from the one before, or from the model."""
    if not halved:
        return [1] * len(ahead)
    first = known[-1].evaluations if known else diffusion_of(search.run.model).steps
    return [max(1, math.ceil(math.log2(many / few))) for many, few in pairwise((first, *ahead))]


def _enough(search: Search, config: DistillConfig, halved: bool) -> int:
    """Steps of a halving as the config has them; of another method all of them."""
    if not halved:
        return config.steps
    rounds = math.ceil(math.log2(diffusion_of(search.run.model).steps / config.evaluations))
    return max(_LEAST, config.steps // max(1, rounds))


def _seconds_of_a_step(search: Search, config: DistillConfig) -> float:
    """Of the training, on the model as wide as it is."""
    timed = Timed(lambda: copy.deepcopy(search.run.model), search.run.dataset)
    return (timed.step(config) or 0.0) / config.steps

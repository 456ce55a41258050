"""What plans cost: some are exported untrained and measured, all others are predicted from them.

Latency and peak memory do not depend on the values of weights, and bytes do by a little: nothing has to be
trained for it. What many evaluations take follows from what few take, so that bundles of a dear sampler are
timed with few of them, twice: a pass and what is beside the passes are told apart by one export.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.compression.search.choices import FLOAT, HALF, Choices
from niwaki.compression.search.cost_models import CostModel, fit_bytes, fit_latency, fit_memory
from niwaki.compression.search.evaluations import steps_for
from niwaki.compression.search.profile import Profile
from niwaki.core.contract import NiwakiError
from niwaki.core.store import copy_file, read_json, write_json
from niwaki.workflow.reasons import refuse_full_disk
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.measuring import latency_key, measure_bundles
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import carry_out

__all__ = ["Prices", "price"]

_EXPORT = 5.0
"""Seconds of exporting a plan, where none was exported in this call."""
_MOST, _FEWEST, _LEAST = 12, 5, 3
"""Plans that are measured; the least where even fewer have taken all of the time."""
_TIMES = 10
"""Exports that a search takes the time of at least: of these plans, the last candidates, what ships, and as
many again for training."""
_ROOM = 0.25
"""Share of a limit that predictions stay away from it at most: more, which noise on the machine may ask for,
costs plans that would keep it, and what is shipped is measured."""
_PASSES = 3
"""Each is timed with so many times fewer evaluations, too, where it has several."""


@dataclass(frozen=True)
class Prices:
    """latency: by batch; size, memory: models of bundles; memory is None where no budget asks for it
    each: seconds of exporting a plan
    measured: what each measured plan costs, beside its choices"""

    latency: dict[int, CostModel]
    size: CostModel
    memory: CostModel | None
    each: float
    measured: list[dict[str, Any]] = field(repr=False)

    def predict(self, profile: Profile) -> dict[str, float]:
        """By key of a budget."""
        found = {"size": self.size.predict(profile), "evaluations": profile.passes}
        for batch, model in self.latency.items():
            found[latency_key(batch)] = model.predict(profile)
        if self.memory is not None:
            found["memory"] = self.memory.predict(profile)
        return found

    @property
    def room(self) -> float:
        """Share of a limit that predictions stay away from it."""
        return min(_ROOM, max(model.quality.slack for model in self.latency.values()))


def price(search: Search, seconds: float) -> Prices:
    """Measure as many plans as that time allows, five at least; those of earlier calls count.

    Raises NiwakiError where too few can be exported, or the whole time does not suffice for three.
    """
    file = search.path / "prices.json"
    rows: list[dict[str, Any]] = read_json(file) if file.exists() else []
    wants = search.budget.batches, search.budget.memory
    rows = [row for row in rows if _has(row, *wants)]
    known = {_exported(Choices.from_json(row["choices"])).key for row in rows}
    plans = [c for c in _plans(search) if _exported(c).key not in known]
    wanted, began = _MOST - len(known), time.monotonic()
    least = _LEAST - 1 if search.template.evaluations else _LEAST  # each of them tells two latencies then
    made: list[tuple[Choices, Path]] = []
    report, late = search.run.reporter, False
    if wanted > 0:
        report.stage("prices", "plans are exported untrained and measured")
    for k, choices in enumerate(plans[: max(wanted, 0)]):
        each = (time.monotonic() - began) / k if k else 0.0
        spent = time.monotonic() - began
        enough = least if spent + each > seconds else _FEWEST
        if len(known) + k >= enough and spent + each > 0.7 * seconds:
            break
        if late := bool(k and each > search.clock.left):
            break  # the search would be over before anything is known
        report.update(k, wanted)
        directory = search.path / "prices" / f"{k:02d}"
        try:
            carry_out(search, Candidate(choices), exports=True, workdir=directory, values=False)
            made.append((choices, _kept(directory)))
        except NiwakiError as error:
            refuse_full_disk(error)
            report.note(f"{choices.origin} cannot be exported: {error}")
    spent = time.monotonic() - began
    if made:
        left = max(2.0, seconds - (time.monotonic() - began))
        ways = [(each, path) for choices, path in made for each in _as_timed(search, choices)]
        measured = measure_bundles(
            search, [path for _, path in ways], seconds=left, memory=wants[1],
            overrides=[_steps(search, choices) for choices, _ in ways],
        )  # fmt: skip
        for (choices, _), costs in zip(ways, measured, strict=True):
            rows.append({"choices": choices.to_json(), "costs": costs})
        write_json(file, rows)
    shutil.rmtree(search.path / "prices", ignore_errors=True)
    if late and made and len(known) + len(made) < least:
        each = (time.monotonic() - began) / len(made)
        raise NiwakiError(
            f"exporting and timing a plan takes {each:.0f} s here, and {least} are needed before others can "
            f"be predicted, {len(known) + len(made)} of which are known now: give at least --time "
            f"{_TIMES * each:.0f}s; "
            "a second call goes on"
        )
    return _fitted(search, rows, *wants, each=spent / len(made) if made else _EXPORT)


def _exported(choices: Choices) -> Choices:
    """What is exported is the same for any number of evaluations."""
    return choices.without(evaluations=0, solver=None)


def _as_timed(search: Search, choices: Choices) -> list[Choices]:
    """The plan with each number of evaluations that its bundle is timed with."""
    if not choices.evaluations:
        return [choices]
    fewer = max(1, choices.evaluations // _PASSES)
    return [choices.without(evaluations=e) for e in dict.fromkeys((choices.evaluations, fewer))]


def _steps(search: Search, choices: Choices) -> dict[str, Any]:
    """The sampler's field that makes a bundle take so many evaluations."""
    return {"steps": steps_for(search.run.model, choices.evaluations)} if choices.evaluations else {}


def _kept(directory: Path) -> Path:
    """The bundle alone; the steps of an untrained plan are of no use."""
    path = directory.with_suffix(".niwaki")
    copy_file(directory / "model.niwaki", path)
    shutil.rmtree(directory)
    return path


def _has(row: dict[str, Any], batches: Sequence[int], memory: bool) -> bool:
    keys = {latency_key(b) for b in batches} | ({"memory"} if memory else set())
    return keys <= set(row["costs"])


def _fitted(
    search: Search, rows: Sequence[dict[str, Any]], batches: Sequence[int], memory: bool, *, each: float
) -> Prices:
    profiles = [search.units.profile(Choices.from_json(row["choices"])) for row in rows]

    def column(key: str) -> list[float]:
        return [float(row["costs"][key]) for row in rows]

    plans = [str(_exported(Choices.from_json(row["choices"])).key) for row in rows]
    latency = {b: fit_latency(profiles, column(latency_key(b)), plans) for b in batches}
    used = fit_memory(profiles, column("memory"), plans) if memory else None
    return Prices(latency, fit_bytes(profiles, column("size"), plans), used, each, list(rows))


def _plans(search: Search) -> list[Choices]:
    """Uniform plans first, then random ones: what rates and factors can be told apart by."""
    units, rng = search.units, np.random.default_rng([search.run.seed, 0x7072])
    few = search.template.evaluations[-1:] or (0,)
    plans = [units.uniform(0.0, 8, evaluations=few[0], origin="int8")]
    if units.couplings:
        plans += [units.uniform(0.75, 8, evaluations=few[0], origin="a quarter of the channels, int8")]
        plans += [units.uniform(0.5, 4, evaluations=few[0], origin="half of the channels, 4 bits")]
    else:
        plans += [units.uniform(0.0, 4, evaluations=few[0], origin="4 bits")]
    plans += [
        units.uniform(0.0, 8, evaluations=few[0], dropped=(name,), origin=f"int8, without {name}")
        for name in units.blocks[-1:]
    ]
    plans += [units.uniform(0.0, FLOAT, evaluations=few[0], origin="float32")]
    while len(plans) < 2 * _MOST:
        base = rng.choice([0.0, 0.25, 0.5, 0.75])
        ratios = {n: float(np.clip(base + rng.normal(0, 0.25), 0, 0.9)) for n in units.couplings}
        bits = rng.choice([8, 4]) if rng.random() < 0.8 else FLOAT
        mixed = {n: int(bits if rng.random() < 0.75 else rng.choice([8, 4, HALF])) for n in units.layers}
        origin = f"random plan {len(plans)}"
        plans.append(Choices(ratios, mixed, search.template.inputs, few[0], origin=origin))
    return plans

"""What each part of a model costs when it alone is cut, rounded or left out: on both axes, in margins of the
verdict.

What used the channels of a cut is solved again by least squares first. Even so this says which parts matter
most; how much is lost in the end, training decides. A diffusion is changed and sampled with the fewest
evaluations that are tried: what these lose by themselves is told apart, and the changes cost a fraction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np

from niwaki.compression.pruning.channels import pruned
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.compression.quantization.ranges import Items
from niwaki.compression.search.choices import FLOAT, Choices
from niwaki.compression.search.evaluations import sampled
from niwaki.compression.sensitivity.config import SensitivityConfig
from niwaki.compression.sensitivity.trials import trials
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.core.store import read_json, write_json
from niwaki.data.inputs import split_inputs
from niwaki.workflow.judging import AXES
from niwaki.workflow.searching.state import Search

__all__ = ["RUINED", "Weights", "loss_of", "sampling_key", "weigh"]

_RATIOS = (0.5, 0.75, 0.25)
_BITS = 4
_FEWEST = 64
"""Samples that a change is judged by, at least."""
_CALIBRATED = 128
"""Samples on whose inputs layers are solved again."""
_LEAST = 1e-3
"""Margins of half a coupling, or of a layer at 4 bits, at least: what does not show is not free."""
RUINED = 3.0
"""Margins that a number of evaluations may lose by itself, for plans with it to be trained."""
_STEEP = 1.5
"""Exponent of the damage of shares that were not tried."""


@dataclass
class Weights:
    """rows: (`prune`, `weights` or `drop`, layer or block, strength) → (fidelity, diversity) in margins, as
    far as measured; of (`sampling`, solver, evaluations) and (`distill`, steps of its trainings, evaluations)
    what the whole model loses so"""

    rows: dict[tuple[str, str, float], tuple[float, float]] = field(default_factory=dict)

    def cut(self, coupling: str, ratio: float) -> tuple[float, float]:
        """Of losing that share of one coupling's channels."""
        if ratio <= 0:
            return (0.0, 0.0)
        return self._of("prune", coupling, ratio, list(_RATIOS))

    def rounded(self, layer: str, bits: int) -> tuple[float, float]:
        """Of rounding one layer's weights: the damage follows the squared error, a quarter with each bit."""
        if bits >= FLOAT:
            return (0.0, 0.0)
        f, d = self._of("weights", layer, _BITS, [_BITS])
        factor = 4.0 ** (_BITS - bits)
        return f * factor, d * factor

    def without(self, block: str) -> tuple[float, float]:
        """Of leaving one block out."""
        return self._of("drop", block, 1.0, [1.0])

    def sampled(self, choices: Choices) -> tuple[float, float]:
        """Of its number of evaluations; 0 where they were not tried."""
        return self.rows.get(sampling_key(choices), (0.0, 0.0))

    def whole(self, choices: Choices) -> tuple[float, float]:
        """By axis, what the groups of a plan cost alone, added up."""
        parts = [self.cut(name, ratio) for name, ratio in choices.left(choices.ratios).items()]
        parts += [self.rounded(name, bits) for name, bits in choices.left(choices.bits).items()]
        parts += [self.without(name) for name in choices.dropped]
        parts += [self.sampled(choices)]
        return sum(f for f, _ in parts), sum(d for _, d in parts)

    def _of(self, technique: str, name: str, strength: float, tried: list[float]) -> tuple[float, float]:
        known = {s: self.rows[technique, name, s] for s in tried if (technique, name, s) in self.rows}
        if not known:  # the middle of the others
            known = {}
            for s in tried:
                alike = [v for (t, _, k), v in self.rows.items() if t == technique and k == s]
                if alike:
                    known[s] = (
                        float(np.median([a for a, _ in alike])),
                        float(np.median([b for _, b in alike])),
                    )
        if not known:
            known = {tried[0]: (1.0, 1.0)}
        if strength in known:
            near, scale = strength, 1.0
        else:
            near = min(known, key=lambda s: abs(s - strength))
            scale = ((strength / (1 - strength)) / (near / (1 - near))) ** _STEEP if strength < 1 else 1.0
        least = _LEAST * (strength / near if technique == "prune" else 1.0)
        f, d = known[near]
        return max(f, least) * scale, max(d, least) * scale


def weigh(search: Search, seconds: float, ways: Sequence[Choices] = ()) -> Weights:
    """Try parts alone, those first that tell most, as long as there is time; earlier calls' trials count.

    ways: how the model may be sampled with fewer evaluations
    """
    file = search.path / "weights.json"
    found = Weights()
    if file.exists():
        found.rows = {(t, n, float(s)): (float(f), float(d)) for t, n, s, f, d in read_json(file)}
    began, report, n = time.monotonic(), search.run.reporter, search.rehearsal.n
    base, before = search.run.model, (0.0, 0.0)
    fewer = sorted((c for c in ways if c.evaluations), key=lambda c: c.evaluations)
    if fewer:
        report.stage("samplings", "what fewer evaluations lose by themselves")
        for k, choices in enumerate(fewer):
            due = k == 0 or time.monotonic() - began < 0.5 * seconds
            if sampling_key(choices) not in found.rows and due:
                made = sampled(search.run.model, choices.evaluations, choices.solver)
                found.rows[sampling_key(choices)] = loss_of(search, made)
                _write(file, found)
        base, before = sampled(base, fewer[0].evaluations, fewer[0].solver), found.sampled(fewer[0])
    todo = [t for t in _trials(search, base) if t.key not in found.rows]
    if todo:
        report.stage("layers", "what each of them costs when it alone is cut or rounded")
    tried = time.monotonic()
    for k, trial in enumerate(todo):
        now = time.monotonic()
        if now - began + ((now - tried) / k if k else 0.0) > seconds:
            left = len(todo) - k
            report.note(
                f"no time to try {left} of {len(todo)} changes of single layers: they count as the others do"
            )
            break
        report.update(k, len(todo), {"layer": trial.layer, trial.technique: f"{trial.strength:g}"})
        try:
            trying = time.monotonic()
            f, d = loss_of(search, trial.make(), n)
        except NiwakiError:
            continue
        if k == 0:
            n = _enough(search, time.monotonic() - trying, len(todo), seconds)
        found.rows[trial.key] = (f - before[0], d - before[1])
        _write(file, found)
    return found


def sampling_key(choices: Choices) -> tuple[str, str, float]:
    """Of `Weights.rows`: what the number of evaluations loses by itself."""
    if choices.distilled:
        return "distill", " ".join(map(str, choices.distilled)), float(choices.evaluations)
    return "sampling", choices.solver or "", float(choices.evaluations)


def loss_of(search: Search, model: GenerativeModel, n: int | None = None) -> tuple[float, float]:
    """(fidelity, diversity) in margins; n: samples, as many as choices rest on where it is None."""
    losses = search.rehearsal.losses(model, n=n)
    f, d = (losses[axis].value if axis in losses else 0.0 for axis in AXES)
    return f, d


def _write(file: Path, found: Weights) -> None:
    write_json(file, [[*key, *value] for key, value in found.rows.items()])


def _enough(search: Search, each: float, many: int, seconds: float) -> int:
    """Samples that a change is judged by, so that as many changes can be tried: fewer than a choice rests on
    where judging is dear, if both axes have margins with fewer.

    each: seconds of a change judged by all of them
    """
    rehearsal = search.rehearsal
    n = int(rehearsal.n * min(1.0, seconds / max(each * many, 1e-9)))
    if n >= rehearsal.n or rehearsal.n <= _FEWEST:
        return rehearsal.n
    n = max(n, _FEWEST)
    rehearsal.losses(rehearsal.before, n=n)
    if rehearsal.unmeasured:
        return rehearsal.n
    search.run.reporter.note(f"judging is dear here: single changes are judged by {n} samples")
    return n


@dataclass(frozen=True)
class _Trial:
    """make: the model with this one change"""

    technique: str
    layer: str
    strength: float
    make: Callable[[], GenerativeModel]

    @property
    def key(self) -> tuple[str, str, float]:
        return (self.technique, self.layer, self.strength)


def _trials(search: Search, base: GenerativeModel) -> list[_Trial]:
    """Half of every coupling, every block left out, 4 bits of every layer, then the other shares.

    base: the model as it is sampled in them
    """
    units = search.units
    config = SensitivityConfig(ratios=(), bits=(_BITS,), activations=False)
    # Made once for all cuts: of a model that samples token by token they are dear.
    rows = search.run.dataset.train
    inputs = cache(lambda: calibration_inputs(base, _CALIBRATED, condition=split_inputs(base, rows)))
    rounded = trials(base, config, seed=search.run.seed) if units.layers else []
    cuts = [
        _Trial("prune", name, r, partial(_cut, search, base, name, r, inputs))
        for r in _RATIOS
        for name in units.couplings
    ]
    bits = [_Trial("weights", t.layer, float(_BITS), t.make) for t in rounded if t.layer in units.layers]
    drops = [_Trial("drop", name, 1.0, partial(_left_out, search, base, name)) for name in units.blocks]
    many = len(units.couplings)
    return [*cuts[:many], *drops, *bits, *cuts[many:]]


def _cut(
    search: Search, model: GenerativeModel, name: str, ratio: float, inputs: Callable[[], Items]
) -> GenerativeModel:
    """One coupling cut, as a plan cuts it: what used its channels is solved again where that can be done."""
    units = search.units
    ratios = {**dict.fromkeys(units.couplings, 0.0), name: ratio}
    config = search.template.prune.model_copy(update={"ratios": ratios, "exclude": units.frozen})
    given = inputs() if config.refit else None
    return pruned(model, config, seed=search.run.seed, inputs=given).model


def _left_out(search: Search, model: GenerativeModel, name: str) -> GenerativeModel:
    """One block left out, sampled as the model is."""
    made = search.units.cut({}, (name,))
    made.config = model.config
    return made

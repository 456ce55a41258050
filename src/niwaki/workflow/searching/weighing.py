"""What each part of a model costs when it alone is cut, rounded or left out: on both axes, in margins of the
verdict.

What used the channels of a cut is solved again by least squares first. Even so this says which parts matter
most; how much is lost in the end, training decides. A diffusion is changed and sampled with the fewest
evaluations that are tried: what these lose by themselves is told apart, and the changes cost a fraction.

Where there is no time to judge samples of every change, the error that each makes in the outputs of the
network says which are judged, and stands for the others.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import cache
from itertools import chain, zip_longest
from pathlib import Path

from niwaki.compression.arithmetic import passes
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.compression.search.choices import Choices
from niwaki.compression.search.evaluations import sampled
from niwaki.compression.search.output_error import OutputError
from niwaki.compression.search.proxies import rank_correlation
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.core.store import read_json, write_json
from niwaki.data.inputs import split_inputs
from niwaki.workflow.judging import AXES
from niwaki.workflow.searching.part_trials import PartTrial, part_trials
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.weights import Probe, Weights, sampling_key

__all__ = ["loss_of", "weigh"]

_FEWEST = 0.5
"""Share of the samples of a choice that a change is judged by, at least: with fewer, chance is larger than
what single layers cost."""
_CALIBRATED = 128
"""Samples on whose inputs layers are solved again, and errors of outputs are measured."""
_ERRORS = 0.4
"""Share of the time that errors of outputs may take."""
_TELLING = 5
"""Measured parts, below which no rank correlation is told."""


def weigh(search: Search, seconds: float, ways: Sequence[Choices] = ()) -> Weights:
    """Try parts alone, those first that tell most, as long as there is time; earlier calls' trials count.

    ways: how the model may be sampled with fewer evaluations
    """
    file = search.path / "weights.json"
    found = Weights()
    if file.exists():
        found.rows = {(t, n, float(s)): (float(f), float(d)) for t, n, s, f, d in read_json(file)}
    end = time.monotonic() + seconds
    base, before = _sampled(search, found, file, end - 0.5 * seconds, ways)
    rows = search.run.dataset.train
    # Made once for all cuts: of a model that samples token by token they are dear.
    inputs = cache(lambda: calibration_inputs(base, _CALIBRATED, condition=split_inputs(base, rows)))
    todo = [t for t in part_trials(search, base, inputs) if t.key not in found.rows]
    if not todo:
        return found
    report = search.run.reporter
    report.stage("layers", "what each of them costs when it alone is cut or rounded")
    sample = search.afforded.judged * passes(base) / search.units.passes
    if sample * search.rehearsal.n * len(todo) > end - time.monotonic():
        found.probe = Probe(base, inputs(), OutputError(base, inputs()))
        found.errors = _errors(found.probe, todo, _ERRORS * (end - time.monotonic()))
        todo = _most_telling(todo, found.errors)
    n = _enough(search, sample * search.rehearsal.n, len(todo), end - time.monotonic())
    began = time.monotonic()
    for k, trial in enumerate(todo):
        now = time.monotonic()
        each = (now - began) / k if k else sample * n
        if now + each > end:
            _tell(search, found, len(todo) - k, len(todo))
            break
        report.update(k, len(todo), {"layer": trial.layer, trial.technique: f"{trial.strength:g}"})
        try:
            f, d = loss_of(search, trial.make(), n)
        except NiwakiError:
            continue
        found.rows[trial.key] = (f - before[0], d - before[1])
        _write(file, found)
    return found


def _sampled(
    search: Search, found: Weights, file: Path, until: float, ways: Sequence[Choices]
) -> tuple[GenerativeModel, tuple[float, float]]:
    """The model with the fewest evaluations, and what these lose by themselves; as it is where it has none to
    choose."""
    fewer = sorted((c for c in ways if c.evaluations), key=lambda c: c.evaluations)
    if not fewer:
        return search.run.model, (0.0, 0.0)
    search.run.reporter.stage("samplings", "what fewer evaluations lose by themselves")
    for k, choices in enumerate(fewer):
        if sampling_key(choices) not in found.rows and (k == 0 or time.monotonic() < until):
            made = sampled(search.run.model, choices.evaluations, choices.solver)
            found.rows[sampling_key(choices)] = loss_of(search, made)
            _write(file, found)
    base = sampled(search.run.model, fewer[0].evaluations, fewer[0].solver)
    return base, found.sampled(fewer[0])


def _errors(probe: Probe, todo: Sequence[PartTrial], seconds: float) -> dict[tuple[str, str, float], float]:
    """What changes do to the outputs of the network, as far as there is time: cuts, after which layers are
    solved again, come last."""
    until, found = time.monotonic() + seconds, {}
    for trial in sorted(todo, key=lambda one: one.technique == "prune"):
        if time.monotonic() > until:
            break
        try:
            value = probe.error.of(trial.make())
        except NiwakiError:
            continue
        if math.isfinite(value):
            found[trial.key] = value
    return found


def _most_telling(todo: Sequence[PartTrial], errors: dict[tuple[str, str, float], float]) -> list[PartTrial]:
    """Techniques in turn, of each the changes first that make the largest errors; then all others."""
    known = sorted((t for t in todo if t.key in errors), key=lambda t: -errors[t.key])
    kinds = dict.fromkeys(t.technique for t in known)
    turns = zip_longest(*([t for t in known if t.technique == kind] for kind in kinds))
    return [*(t for t in chain(*turns) if t is not None), *(t for t in todo if t.key not in errors)]


def _tell(search: Search, found: Weights, left: int, of: int) -> None:
    """That there was no time for all of them, and how far what stands for the others can be believed."""
    stand = "errors of the network's outputs stand in" if found.errors else "they count as the others do"
    text = f"no time to judge {left} of {of} changes of single layers: {stand}"
    both = [key for key in found.rows if key in found.errors]
    if len(both) >= _TELLING:
        error = [found.errors[key] for key in both]
        ranks = [
            rank_correlation(error, [found.rows[key][axis] for key in both]) for axis in range(len(AXES))
        ]
        said = ", ".join(f"{a} {r.rho:.2f} [{r.lower:.2f}]" for a, r in zip(AXES, ranks, strict=True))
        text += f" (Spearman's ρ to {len(both)} measured losses: {said})"
    search.run.reporter.note(text)


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
    n = max(n, int(_FEWEST * search.afforded.least))
    if n >= rehearsal.n:
        return rehearsal.n
    rehearsal.losses(rehearsal.before, n=n)
    if rehearsal.unmeasured:
        return rehearsal.n
    search.run.reporter.note(f"judging is dear here: single changes are judged by {n} samples")
    return n

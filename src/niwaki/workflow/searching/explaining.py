"""Where a candidate's loss comes from: after each step of its plan, and with one group at a time undone.

Rounding is undone layer by layer on the trained weights, and judged again. A cut cannot be undone without
training: what a group of channels cost when it alone was cut stands for it, and is said to.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from niwaki.compression.config import QuantizeConfig, StepConfig
from niwaki.compression.finished import directory_of, has_weights
from niwaki.compression.quantization.convert import quantize_model
from niwaki.compression.reload import load_step
from niwaki.compression.search.choices import FLOAT, Choices, steps_of
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.data.inputs import split_inputs
from niwaki.workflow.judging import AXES
from niwaki.workflow.searching.attempt import carried_out
from niwaki.workflow.searching.candidate import Candidate
from niwaki.workflow.searching.rehearsal import Loss
from niwaki.workflow.searching.state import Search
from niwaki.workflow.searching.trying import carry_out, plan_of, take_learnt
from niwaki.workflow.searching.weights import Weights
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["Explanation", "Undone", "explain"]

_FELL = 0.1
"""Coverage of a class that has to be lost to be named."""
_NAMED = 5


@dataclass(frozen=True)
class Undone:
    """One group as it was before.

    what:    `rounded`, `cut` or `dropped`
    name:    layer, first layer of the coupling, or block
    losses:  by axis, of the candidate without it; of a cut or a block what it cost when it alone was gone
    fewer:   margins of the worse axis that it takes away
    choices: the candidate's with this one undone
    """

    what: str
    name: str
    losses: dict[str, float]
    fewer: float
    choices: Choices = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        return {"what": self.what, "name": self.name, "losses": dict(self.losses), "fewer": self.fewer}


@dataclass(frozen=True)
class Explanation:
    """of:      name of the candidate
    steps:   (kind, losses by axis after it), in order
    undone:  groups, the one that takes most away first
    classes: (name, coverage before, after), the most damaged first; empty where there are none
    """

    of: str
    steps: tuple[tuple[str, dict[str, Loss]], ...]
    undone: tuple[Undone, ...]
    classes: tuple[tuple[str, float, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "of": self.of,
            "steps": [[kind, {a: vars(loss) for a, loss in losses.items()}] for kind, losses in self.steps],
            "undone": [one.to_json() for one in self.undone],
            "classes": [list(row) for row in self.classes],
            "text": self.text,
        }

    @property
    def text(self) -> str:
        """Which step, which groups and which classes, in sentences."""
        said, before = [], 0.0
        jumps = []
        for kind, losses in self.steps:
            worst = max(loss.value for loss in losses.values())
            jumps.append((worst - before, kind, worst))
            before = worst
        if jumps:
            ends = " → ".join(f"{kind} {worst:.2f}" for _, kind, worst in jumps)
            said.append(f"Margins lost on the worse axis after each step: {ends}.")
        most = [one for one in self.undone if one.fewer > 0.05][:_NAMED]
        for what, words in (
            ("rounded", "left unrounded, "),
            ("cut", "alone cut (and not trained on), "),
            ("dropped", "alone left out (and not trained on), "),
        ):
            named = [f"'{one.name}' {one.fewer:.2f}" for one in most if one.what == what]
            if named:
                takes = "takes away margins" if what == "rounded" else "costs margins"
                said.append(f"What {takes} when {words}group by group: {', '.join(named)}.")
        if self.classes:
            named = [f"'{name}' {a:.2f} → {b:.2f}" for name, a, b in self.classes[:_NAMED]]
            said.append(f"Classes that are reached less: {', '.join(named)} (rarefied coverage).")
        return " ".join(said)


def explain(search: Search, candidate: Candidate, weights: Weights, *, seconds: float) -> Explanation:
    """What its loss consists of, as far as that time allows: steps first, then layers by what they should
    matter."""
    began, report = time.monotonic(), search.run.reporter
    report.stage("explain", candidate.choices.origin)
    steps: list[tuple[str, dict[str, Loss]]] = []
    rounded: tuple[GenerativeModel, QuantizeConfig] | None = None
    model = search.run.model
    classes: tuple[tuple[str, float, float], ...] = ()
    plan = steps_of(candidate.choices.without(packed=False), search.template, candidate.trained)
    carry_out(search, candidate, exports=False)  # of what was tried, only the trained state is on disk
    for k, step in enumerate(plan):
        if isinstance(step, QuantizeConfig):
            rounded = (model, step)
        following = plan[k + 1].kind if k + 1 < len(plan) else ""
        if step.kind == following:
            continue  # of a training in pieces, the last one counts
        late = bool(steps and following) and time.monotonic() - began > 0.5 * seconds
        if late and following != "quantize":  # what is rounded is needed, whether or not it is judged
            continue
        model = _after(search, candidate, plan, k)
        if late:
            continue
        steps.append((step.kind, search.rehearsal.losses(model)))
        classes = _classes(search.rehearsal.particulars)
    undone = list(_cuts(candidate, weights))
    if rounded is not None and steps:
        now = max(loss.value for loss in steps[-1][1].values())
        layers = sorted(
            (n for n, bits in candidate.choices.left(candidate.choices.bits).items() if bits < FLOAT),
            key=lambda n: -max(weights.rounded(n, candidate.choices.bits[n])),
        )
        for k, name in enumerate(layers):
            if k and (time.monotonic() - began) * (k + 1) / k > seconds:
                break
            report.update(k, len(layers), {"": name})
            undone.append(_without(search, candidate, name, *rounded, now=now))
    undone.sort(key=lambda one: -one.fewer)
    return Explanation(candidate.name, tuple(steps), tuple(undone), classes)


def _after(search: Search, candidate: Candidate, plan: Sequence[StepConfig], k: int) -> GenerativeModel:
    """The model after step k: from disk, or where its weights are gone, as those before a training are,
    carried out again."""
    directory = directory_of(search.directory(candidate), plan, k)
    if has_weights(directory):
        return load_step(directory, search.run.model)
    begun = plan_of(search, candidate, exports=False).model_copy(update={"steps": tuple(plan[: k + 1])})
    with scratch_directory() as scratch:
        take_learnt(search, candidate.choices, scratch)
        return carried_out(search.run, begun, scratch, exports=False).model


def _without(
    search: Search,
    candidate: Candidate,
    name: str,
    model: GenerativeModel,
    config: QuantizeConfig,
    *,
    now: float,
) -> Undone:
    """The candidate with one layer left in float."""
    choices = candidate.choices.without(bits={**candidate.choices.bits, name: FLOAT})
    changed = config.model_copy(update={"layers": {**config.layers, name: "float"}})
    condition = split_inputs(search.run.model, search.run.dataset.train)
    try:
        made = quantize_model(model, changed, condition=condition).model
    except NiwakiError:  # it was the only layer
        made = model
    losses = {axis: loss.value for axis, loss in search.rehearsal.losses(made).items()}
    return Undone("rounded", name, losses, now - max(losses.values()), choices)


def _cuts(candidate: Candidate, weights: Weights) -> list[Undone]:
    out = []
    for name, ratio in candidate.choices.left(candidate.choices.ratios).items():
        if ratio > 0:
            fidelity, diversity = weights.cut(name, ratio)
            choices = candidate.choices.without(ratios={**candidate.choices.ratios, name: 0.0})
            losses = {"fidelity": fidelity, "diversity": diversity}
            out.append(Undone("cut", name, losses, max(losses.values()), choices))
    for name in candidate.choices.dropped:
        losses = dict(zip(AXES, weights.without(name), strict=True))
        left = tuple(n for n in candidate.choices.dropped if n != name)
        choices = candidate.choices.without(dropped=left)
        out.append(Undone("dropped", name, losses, max(losses.values()), choices))
    return out


def _classes(particulars: Mapping[str, Any]) -> tuple[tuple[str, float, float], ...]:
    """Those whose coverage fell, the most damaged first."""
    found = [
        (str(n), float(c["before"]), float(c["after"]))
        for n, c in (particulars.get("per_class") or {}).items()
    ]
    fallen = [row for row in found if row[1] - row[2] > _FELL]
    return tuple(sorted(fallen, key=lambda row: row[2] - row[1]))

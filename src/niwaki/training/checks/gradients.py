"""Gradients: whether each trained weight gets one, and of what size."""

from __future__ import annotations

import math
from typing import Any

import torch

from niwaki.core.contract import Context
from niwaki.data import Feeder
from niwaki.training.checks.base import CHECKS, Check, Looked, Subject
from niwaki.training.schedule import seed_of

__all__ = ["Gradients"]

_BATCHES = 3
_FAR = 1e6
"""Between the largest and the smallest relative gradient of a network: beyond it some layers stand still."""


@CHECKS.register("gradients")
class Gradients(Check):
    """The loss of a few batches, differentiated in float32 before the first step.

    A weight whose gradient is zero in all of them is not learned: it is cut off from the loss, or its input
    is always zero. That is no fault where a layer behind it begins at zero (adaLN-Zero, a control branch):
    then only the last of the two moves in the first step, and the finding is a note.
    """

    title = "gradients"

    def look(self, subject: Subject) -> Looked:
        model, config = subject.make(), subject.config
        stage, found = config.all_stages[0], dict[str, float]()
        owed = dict[str, torch.nn.Parameter]()
        settings = config.of_stage(stage)
        feeder = Feeder(subject.split, min(settings.batch, len(subject.split)), seed=subject.seed)
        rng = torch.Generator()
        model.train()
        with torch.random.fork_rng():
            torch.manual_seed(subject.seed)
            begin = Context(0, 0.0, stage.name, {}, rng.manual_seed(subject.seed))
            with torch.no_grad():
                model.begin_stage(begin, feeder.batch)
            for k in range(_BATCHES):
                for phase in model.phases():
                    if not phase.in_stage(stage.name):
                        continue
                    rng.manual_seed(seed_of(subject.seed, phase.name, k))
                    ctx = Context(phase.every * k, 0.0, stage.name, settings.loss_weights, rng)
                    with torch.no_grad():
                        batch = model.prepare(feeder.batch(k), ctx)
                    mine = _named(model, phase.parameters, settings.freeze)
                    owed |= mine
                    total = ctx.total(model.loss(phase.name, batch, ctx))
                    if not math.isfinite(value := float(total.detach())):
                        text = f"the first loss of the phase '{phase.name}' is {value}"
                        return Looked.one("error", "loss", text)
                    slopes = torch.autograd.grad(total, list(mine.values()), allow_unused=True)
                    for name, slope in zip(mine, slopes, strict=True):
                        size = 0.0 if slope is None else float(slope.float().norm())
                        found[name] = max(found.get(name, 0.0), size) if math.isfinite(size) else math.nan
                subject.progress(k + 1, _BATCHES)
        return _told(found, {n: float(p.detach().float().norm()) for n, p in owed.items()})


def _named(
    model: torch.nn.Module, parts: tuple[str, ...], frozen: tuple[str, ...]
) -> dict[str, torch.nn.Parameter]:
    """Parameters that a phase trains, by name."""

    def under(name: str, prefixes: tuple[str, ...]) -> bool:
        return any(name == p or name.startswith(f"{p}.") for p in prefixes)

    return {
        name: p
        for name, p in model.named_parameters()
        if p.requires_grad and under(name, parts) and not under(name, frozen)
    }


def _told(found: dict[str, float], weights: dict[str, float]) -> Looked:
    broken = tuple(name for name, size in found.items() if math.isnan(size))
    still = tuple(name for name, size in found.items() if size == 0.0)
    figures: dict[str, Any] = {"parameters": len(found), "without": len(still), "norm": _norm(found)}
    if broken:
        text = f"gradients of {len(broken)} of {len(found)} tensors are not finite"
        return Looked.one("error", "gradients", text, broken, **figures)
    if len(still) == len(found):
        return Looked.one("error", "gradients", "no weight gets a gradient", still[:1], **figures)
    if still:
        zero = all(weights[name] == 0.0 or _beside_zero(name, weights) for name in still)
        text = f"{len(still)} of {len(found)} weight tensors get no gradient in the first step"
        more = ": what follows them begins at zero" if zero else "; nothing in the loss depends on them"
        return Looked.one("note" if zero else "warning", "gradients", text + more, still, **figures)
    ratios = {n: found[n] / weights[n] for n in found if weights[n] > 0}
    spread = max(ratios.values()) / min(ratios.values()) if ratios else 1.0
    figures["spread"] = spread
    if spread > _FAR:
        small, large = min(ratios, key=ratios.__getitem__), max(ratios, key=ratios.__getitem__)
        text = (
            f"gradients relative to their weights differ by {spread:.0e} between layers: with one rate for "
            "all of them some hardly move"
        )
        return Looked.one("warning", "gradients", text, (small, large), **figures)
    text = f"all {len(found)} weight tensors get finite gradients"
    return Looked.one("note", "gradients", text, **figures)


def _norm(found: dict[str, float]) -> float:
    return math.sqrt(sum(size * size for size in found.values()))


def _beside_zero(name: str, weights: dict[str, float]) -> bool:
    """Whether a weight of the same block, or of one around it, begins at zero."""
    place = name.rpartition(".")[0].rpartition(".")[0]
    return any(size == 0.0 for other, size in weights.items() if other.startswith(place) and other != name)

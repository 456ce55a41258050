"""Structured pruning: which channels go, when, and the cut itself."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from niwaki.compression.config import PruneConfig
from niwaki.compression.forward import check, shapes
from niwaki.compression.pruning.coupling import Coupling, couplings, cuts_of
from niwaki.compression.pruning.importance import importance_of
from niwaki.compression.pruning.trial import Trial
from niwaki.contract import GenerativeModel, NiwakiError
from niwaki.nn.edits import apply_edits

__all__ = ["Pruned", "prune", "pruned"]


@dataclass(frozen=True)
class Pruned:
    """What pruning did.

    model:    the pruned model; its `surgery` says how
    widths:   coupling → channels before and after
    skipped:  coupling → why it kept its width
    """

    model: GenerativeModel
    widths: dict[str, tuple[int, int]]
    skipped: dict[str, str]


Recover = Callable[[GenerativeModel, int], GenerativeModel]


def prune(
    model: GenerativeModel,
    config: PruneConfig | None = None,
    *,
    seed: int = 0,
    recover: Recover | None = None,
    **settings: Any,
) -> GenerativeModel:
    """A pruned copy of `model`, as `pruned` makes it.

    settings: fields of `PruneConfig`, instead of a config or on top of it

    >>> small = prune(model, ratio=0.5)  # doctest: +SKIP
    """
    config = (config or PruneConfig()).model_copy(update=settings)
    return pruned(model, PruneConfig.model_validate(config.model_dump()), seed=seed, recover=recover).model


def pruned(
    model: GenerativeModel, config: PruneConfig, *, seed: int = 0, recover: Recover | None = None
) -> Pruned:
    """Cut `config.ratio` of the channels of a copy of `model`, in `config.rounds` rounds.

    recover: (model, round) → model, called after each round but the last (training on)
    Raises NiwakiError where nothing could be cut, or where a cut would leave a broken model.
    """
    model = copy.deepcopy(model).eval()
    expected, criterion = shapes(model), importance_of(config.importance)
    plan: _Widths | None = None
    skipped: dict[str, str] = {}
    for k in range(1, config.rounds + 1):
        found = couplings(model)
        if plan is None:
            trial = Trial(model, seed)
            found = [_excluded(model, trial.tried(c), config) for c in found]
            skipped = {c.key: c.protected for c in found if c.protected}
            plan = _Widths(config, {c.key: c.units for c in found if not c.protected})
        found = [c for c in found if c.key in plan.before]
        removed = plan.removed(found, criterion(model, found), config.ratio * k / config.rounds)
        if not removed:
            continue
        reason = Trial(model, seed + k).refusal(removed)
        if reason:
            raise NiwakiError(
                f"pruning would break the model: {reason}; exclude the layers it names with 'exclude'"
            )
        cuts = cuts_of(model, removed)
        apply_edits(model, cuts)
        model.surgery = (*model.surgery, *cuts)
        check(model, expected)
        if recover is not None and k < config.rounds:
            model = recover(model, k)
    widths = {c.key: (plan.before[c.key], c.units) for c in couplings(model) if plan and c.key in plan.before}
    if not any(after < before for before, after in widths.values()):
        raise NiwakiError(_nothing(config, widths, skipped))
    return Pruned(model, widths, skipped)


def _nothing(config: PruneConfig, widths: dict[str, tuple[int, int]], skipped: dict[str, str]) -> str:
    if widths:
        return (
            f"pruning cut nothing: with round_to={config.round_to} and min_width={config.min_width} no width "
            f"changes at ratio {config.ratio}; lower them or raise the ratio"
        )
    first = next(iter(skipped.items()), None)
    return "pruning cut nothing: no layer may change its width" + (
        f" (of '{first[0]}': {first[1]})" if first else ""
    )


def _excluded(model: GenerativeModel, coupling: Coupling, config: PruneConfig) -> Coupling:
    """The coupling, protected where the user excludes one of its layers or the model does not offer them all.

    A model may declare `prunable`, names (or beginnings of names) of modules, as an attribute or a method.
    """
    if coupling.protected:
        return coupling
    offered = getattr(model, "prunable", None)
    offered = offered() if callable(offered) else offered
    for layer in coupling.layers:
        if any(_under(layer, name) for name in config.exclude):
            return replace(coupling, protected=f"'{layer}' is excluded")
        if offered is not None and not any(_under(layer, name) for name in offered):
            return replace(coupling, protected=f"the model does not offer '{layer}' for pruning")
    return coupling


def _under(layer: str, name: str) -> bool:
    return layer == name or layer.startswith(name + ".")


@dataclass(frozen=True)
class _Widths:
    """Which widths a round aims at. `before` are the widths of the untouched model."""

    config: PruneConfig
    before: dict[str, int]

    def removed(
        self, found: list[Coupling], scores: list[Tensor], ratio: float
    ) -> list[tuple[Coupling, tuple[int, ...]]]:
        """The units that go in this round, by coupling; couplings that keep all are left out."""
        shares = self._global(found, scores, ratio) if self.config.ranking == "global" else {}
        out = []
        for coupling, score in zip(found, scores, strict=True):
            wanted = shares.get(coupling.key, self.before[coupling.key] * (1.0 - ratio))
            keep = self._kept(coupling, score, self._rounded(coupling, wanted))
            gone = tuple(u for u in range(coupling.units) if u not in keep)
            if gone:
                out.append((coupling, gone))
        return out

    def _rounded(self, coupling: Coupling, wanted: float) -> int:
        """The nearest width that engines like: a multiple of `round_to` and of the blocks."""
        before = self.before[coupling.key]
        step = math.lcm(self.config.round_to, coupling.blocks)
        if step > before // 2:
            step = coupling.blocks  # too narrow a layer for multiples
            if self.config.round_to > 1 and before <= self.config.round_to:
                return coupling.units
        least = -(-min(self.config.min_width, before) // step) * step
        return min(coupling.units, max(step, least, round(wanted / step) * step))

    def _kept(self, coupling: Coupling, score: Tensor, count: int) -> set[int]:
        """The `count` best units, as many from each block; ties go to the lower index."""
        size, each = coupling.units // coupling.blocks, count // coupling.blocks
        keep: set[int] = set()
        for block in range(coupling.blocks):
            part = score[block * size : (block + 1) * size]
            order = torch.argsort(part, descending=True, stable=True)[:each]
            keep.update((order + block * size).tolist())
        return keep

    def _global(self, found: list[Coupling], scores: list[Tensor], ratio: float) -> dict[str, float]:
        """Widths left when the lowest channels of all go; each keeps half of what `layer` would leave."""
        goal = sum(self.before[c.key] for c in found) * (1.0 - ratio)
        ranked = torch.cat(scores).sort(descending=True).values
        threshold = float(ranked[min(max(int(goal), 1), len(ranked)) - 1])
        return {
            c.key: max(float((s >= threshold).sum()), 0.5 * (1.0 - ratio) * self.before[c.key])
            for c, s in zip(found, scores, strict=True)
        }

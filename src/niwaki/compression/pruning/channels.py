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
from niwaki.compression.forward import check, outputs, shapes
from niwaki.compression.pruning.coupling import Coupling, couplings, cuts_of, together
from niwaki.compression.pruning.importance import importance_of
from niwaki.compression.pruning.trial import Trial
from niwaki.contract import GenerativeModel, NiwakiError
from niwaki.nn.edits import Edit, apply_edits
from niwaki.nn.opened import Opened, openable
from niwaki.nn.plain import Plain, parametrized

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


Removed = tuple[Coupling, tuple[int, ...]]
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
    _made_plain(model)
    expected, criterion = shapes(model), importance_of(config.importance)
    chosen: dict[str, Coupling] = {}
    plan: _Widths | None = None
    skipped: dict[str, str] = {}
    for k in range(1, config.rounds + 1):
        if plan is None:
            found, skipped = chosen_couplings(model, config, Trial(model, seed))
            chosen = {c.key: c for c in found}
            plan = _Widths(config, {c.key: c.units for c in found})
        else:
            found = _again(model, chosen)
        removed = plan.removed(found, criterion(model, found), config.ratio * k / config.rounds)
        if not removed:
            continue
        removed = _possible(Trial(model, seed + k), removed, skipped)
        cuts = cuts_of(model, removed)
        apply_edits(model, cuts)
        model.surgery = (*model.surgery, *cuts)
        check(model, expected)
        if recover is not None and k < config.rounds:
            model = recover(model, k)
    after = {c.key: c.units for c in _again(model, chosen)}
    # A coupling of heads with one head left is none any more.
    widths = {key: (before, after.get(key, 1)) for key, before in plan.before.items()} if plan else {}
    if not any(after < before for before, after in widths.values()):
        raise NiwakiError(_nothing(config, widths, skipped))
    return Pruned(model, widths, skipped)


def _made_plain(model: GenerativeModel) -> None:
    """Take off the weight and spectral norms of the layers that sampling uses and open torch's attention; the
    outputs stay as they are."""
    met: list[Edit] = []

    def watched(edit: Edit) -> Callable[..., None]:
        return lambda *_: met.append(edit)

    handles = [
        module.register_forward_pre_hook(watched(Plain(name) if parametrized(module) else Opened(name)))
        for name, module in model.named_modules()
        if parametrized(module) or openable(module)
    ]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # which would not call the modules
    try:
        outputs(model)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()
    edits = tuple(dict.fromkeys(met))
    apply_edits(model, edits)
    model.surgery = (*model.surgery, *edits)


def chosen_couplings(
    model: GenerativeModel, config: PruneConfig, trial: Trial
) -> tuple[list[Coupling], dict[str, str]]:
    """The couplings that may be cut, and why the others may not (by key).

    Where channels of attention heads cannot be cut, or not exactly (the heads' width is in a scale), whole
    heads are cut instead, if they can be.
    """

    def tried(found: list[Coupling]) -> list[Coupling]:
        return [_excluded(model, trial.tried(_excluded(model, c, config)), config) for c in found]

    fine = tried(couplings(model)) if config.heads != "only" else []
    whole = couplings(model, heads=True) if config.heads != "never" else []
    heads = [
        c
        for c in tried([c for c in whole if not all(f.exact for f in fine if f.overlaps(c)) or not fine])
        if not c.protected
    ]
    heads = [c for c in heads if c.exact or not any(not f.protected for f in fine if f.overlaps(c))]
    fine = [c for c in fine if not any(c.overlaps(h) for h in heads)]
    for parts in _twins(fine):
        both = trial.tried(together(parts))
        if not both.protected:
            fine = [c for c in fine if not any(c is p for p in parts)] + [both]
    skipped = {c.key: c.protected for c in fine if c.protected}
    return [c for c in (*fine, *heads) if not c.protected], skipped


def _twins(found: list[Coupling]) -> list[list[Coupling]]:
    """Couplings of one module that cannot be cut alone, and have as many units each."""
    alike: dict[tuple[str, int], list[Coupling]] = {}
    for c in found:
        if c.protected.startswith("a trial cut"):
            alike.setdefault((c.around, c.units), []).append(c)
    return [parts for parts in alike.values() if len(parts) > 1]


def _again(model: GenerativeModel, chosen: dict[str, Coupling]) -> list[Coupling]:
    """The chosen couplings as they are now, narrower than before."""
    found = couplings(model) + (
        couplings(model, heads=True) if any(c.size > 1 for c in chosen.values()) else []
    )
    by_key = {c.key: c for c in found}
    found += [together([by_key[k] for k in c.parts]) for c in chosen.values() if c.parts]
    out = []
    for one in found:
        if one.key in chosen and one.size == chosen[one.key].size:
            follows = tuple(f.now(model) for f in chosen[one.key].follows)
            out.append(replace(one, follows=follows))
    return out


def _possible(trial: Trial, removed: list[Removed], skipped: dict[str, str]) -> list[Removed]:
    """What can be cut together. What cannot is left out, with the reason in `skipped`.

    Raises NiwakiError where nothing is left.
    """
    reason = trial.refusal(removed)
    if not reason:
        return removed
    kept: list[Removed] = []
    for one in removed:
        refused = trial.refusal([*kept, one])
        if refused:
            skipped[one[0].key] = refused
        else:
            kept.append(one)
    if not kept:
        raise NiwakiError(f"pruning would break the model: {reason}")
    return kept


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
        if coupling.size > 1:  # heads: each is a width that engines like already
            whole = math.ceil(
                wanted / coupling.blocks - 1e-9
            )  # of few heads rather one too many than too few
            return min(coupling.units, max(1, whole) * coupling.blocks)
        step = math.lcm(self.config.round_to, coupling.multiple)
        if step > before // 2:
            step = coupling.multiple  # too narrow a layer for multiples
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

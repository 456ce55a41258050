"""Cutting channels by criteria that look at data, by shares of their own, or by what was learned."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor

from niwaki.compression.forward import check, shapes
from niwaki.compression.pruning.channels import (
    Pruned,
    _again,
    _made_plain,
    _nothing,
    _possible,
    chosen_couplings,
)
from niwaki.compression.pruning.config import PruneConfig
from niwaki.compression.pruning.coupling import Coupling, cuts_of
from niwaki.compression.pruning.evidence import Evidence
from niwaki.compression.pruning.importance import importance_of
from niwaki.compression.pruning.schedules import SCHEDULES
from niwaki.compression.pruning.shares import Shares, makers
from niwaki.compression.pruning.slots import check_ratios
from niwaki.compression.pruning.trial import Trial
from niwaki.contract import GenerativeModel, NiwakiError
from niwaki.nn.edits import apply_edits

__all__ = ["Learn", "cut_channels"]

Recover = Callable[[GenerativeModel, int], GenerativeModel]

Learn = Callable[[GenerativeModel, list[Coupling]], tuple[GenerativeModel, dict[str, Tensor], dict[str, int]]]
"""(model, couplings that may be cut) → the model trained on, coupling → score per unit, coupling → how many
stay."""


def cut_channels(
    model: GenerativeModel,
    config: PruneConfig,
    *,
    seed: int = 0,
    evidence: Evidence | None = None,
    recover: Recover | None = None,
    learn: Learn | None = None,
) -> Pruned:
    """As `niwaki.compression.pruning.channels.pruned`, for all that `config` can ask for.

    evidence: what `taylor` looks at; by default the model's own samples
    learn:    which channels stay, instead of a criterion; in one round
    Raises NiwakiError where nothing could be cut, or where a cut would leave a broken model.
    """
    model = copy.deepcopy(model).eval()
    _made_plain(model)
    expected = shapes(model)
    free, skipped = chosen_couplings(model, config, Trial(model, seed))
    before = {c.key: c.units for c in free}
    if config.ratios:
        check_ratios(config.ratios, [layer for c in free for layer in makers(c)])
    learned: dict[str, Tensor] = {}
    left: dict[str, int] = {}
    if learn is not None and free:
        model, learned, left = learn(model, free)
    chosen = {c.key: c for c in free if learn is None or c.key in learned}
    plan = Shares(config, before, left)
    for k in range(1, config.rounds + 1):
        found = _again(model, chosen)
        if learn is None:
            scores = importance_of(config.importance)(model, found, evidence)
        else:
            scores = [learned[c.key] for c in found]
        removed = plan.removed(found, scores, config.ratio * SCHEDULES[config.schedule](k, config.rounds))
        if not removed:
            continue
        removed = _possible(Trial(model, seed + k), removed, skipped)
        cuts = cuts_of(model, removed)
        apply_edits(model, cuts)
        model.surgery = (*model.surgery, *cuts)
        check(model, expected)
        if recover is not None and k < config.rounds:
            model = recover(model, k)
    after = {c.key: c.units for c in _again(model, {c.key: c for c in free})}
    # A coupling of heads with one head left is none any more.
    widths = {key: (units, after.get(key, 1)) for key, units in before.items()}
    if not any(now < was for was, now in widths.values()):
        raise NiwakiError(_nothing(config, widths, skipped))
    return Pruned(model, widths, skipped)

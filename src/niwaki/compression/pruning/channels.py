"""Structured pruning: the rounds, and the cut itself."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from niwaki.compression.forward import check, shapes
from niwaki.compression.pruning.choice import again, chosen_couplings
from niwaki.compression.pruning.config import PruneConfig
from niwaki.compression.pruning.dependencies.dependency_graph import Coupling, cuts_of
from niwaki.compression.pruning.importance.channels import importance_of
from niwaki.compression.pruning.importance.evidence import Evidence
from niwaki.compression.pruning.plainly import make_plain
from niwaki.compression.pruning.refit import SAMPLES, refit
from niwaki.compression.pruning.schedules import SCHEDULES
from niwaki.compression.pruning.shares import Removed, Shares, makers
from niwaki.compression.pruning.slots import check_ratios
from niwaki.compression.pruning.trial import Trial
from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.compression.quantization.ranges import Items
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.core.errors import NothingToDo
from niwaki.surgery.edits import apply_edits

__all__ = ["Learn", "Pruned", "Recover", "pruned"]

_REASONS = 3
"""As many are said where nothing can be cut."""

Recover = Callable[[GenerativeModel, int], GenerativeModel]
"""(model, round) → the model trained on."""

Learn = Callable[[GenerativeModel, list[Coupling]], tuple[GenerativeModel, dict[str, Tensor], dict[str, int]]]
"""(model, couplings that may be cut) → the model trained on, coupling → score per unit, coupling → how many
stay."""


@dataclass(frozen=True)
class Pruned:
    """What pruning did.

    model:    the pruned model; its `surgery` says how
    widths:   coupling → channels before and after
    skipped:  coupling → why it kept its width
    refitted: what was solved again after the cuts, one sentence a round
    """

    model: GenerativeModel
    widths: dict[str, tuple[int, int]]
    skipped: dict[str, str]
    refitted: tuple[str, ...] = ()


def pruned(
    model: GenerativeModel,
    config: PruneConfig,
    *,
    seed: int = 0,
    evidence: Evidence | None = None,
    recover: Recover | None = None,
    learn: Learn | None = None,
    condition: Any = None,
    samples: int = SAMPLES,
    inputs: Items | None = None,
) -> Pruned:
    """Cut `config.ratio` of the channels of a copy of `model`, in `config.rounds` rounds.

    evidence: what criteria that look at data are given; by default the model's own samples
    recover:  called after each round but the last (training on)
    learn:    says which channels stay, instead of a criterion; in one round
    condition: what samples are asked for whose inputs layers are refitted on; None is the classes in turn
    samples:  how many of them
    inputs:   of the graphs, instead of theirs, where they are known
    Raises CallError for `ratios` of layers that are not there, NiwakiError where nothing could be cut, where
    a cut would leave a broken model, or where no layer can be refitted that should be.
    """
    model = copy.deepcopy(model).eval()
    make_plain(model)
    expected = shapes(model)
    free, skipped = chosen_couplings(model, config, seed)
    before = {c.key: c.units for c in free}
    if config.ratios:
        check_ratios(config.ratios, [layer for c in free for layer in makers(c)])
    if not free:
        raise NothingToDo(_nothing(config, {}, skipped))
    learned: dict[str, Tensor] = {}
    left: dict[str, int] = {}
    if learn is not None:
        model, learned, left = learn(model, free)
    chosen = {c.key: c for c in free if learn is None or c.key in learned}
    plan, told = Shares(config, before, left), []
    if config.refit and inputs is None:
        inputs = calibration_inputs(model, samples, condition=condition)
    for k in range(1, config.rounds + 1):
        found = list(chosen.values()) if k == 1 else again(model, chosen)
        if learn is None:
            scores = importance_of(config.importance)(model, found, evidence)
        else:
            scores = [learned[c.key] for c in found]
        removed = plan.removed(found, scores, config.ratio * SCHEDULES[config.schedule](k, config.rounds))
        if not removed:
            continue
        removed = _possible(Trial(model, seed + k), removed, skipped)
        cuts = cuts_of(model, removed)
        whole = copy.deepcopy(model) if config.refit else None
        apply_edits(model, cuts)
        model.surgery = (*model.surgery, *cuts)
        if whole is not None:
            told.append(refit(model, whole, cuts, inputs or {}).told())
        check(model, expected)
        if recover is not None and k < config.rounds:
            model = recover(model, k)
    after = {c.key: c.units for c in again(model, {c.key: c for c in free})}
    # A coupling of heads with one head left is none any more.
    widths = {key: (units, after.get(key, 1)) for key, units in before.items()}
    if not any(now < was for was, now in widths.values()):
        raise NothingToDo(_nothing(config, widths, skipped))
    return Pruned(model, widths, skipped, tuple(told))


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
    if not skipped:
        return "pruning cut nothing: no layer of the model makes channels of its own"
    whose: dict[str, str] = {}  # reason → the first that has it
    for key, reason in skipped.items():
        whose.setdefault(reason, key)
    # Causes before what a trial met, and last what goes without saying: that inputs and outputs stay.
    order = sorted(whose, key=lambda r: 2 if r.endswith("of a graph") else r.startswith("a trial cut"))
    shown = "; ".join(f"'{whose[reason]}': {reason}" for reason in order[:_REASONS])
    return f"pruning cut nothing: no layer may change its width ({shown})"

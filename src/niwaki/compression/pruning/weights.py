"""Pruning single weights: scores, how many each layer keeps, and zeros that stay."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from niwaki.compression.forward import check, shapes
from niwaki.compression.pruning.channels import Recover
from niwaki.compression.pruning.config import PruneConfig, nm
from niwaki.compression.pruning.importance.criteria import criterion_of
from niwaki.compression.pruning.importance.evidence import Evidence
from niwaki.compression.pruning.patterns import erk, keep_global, keep_highest, keep_n_of_m, lamp
from niwaki.compression.pruning.plainly import make_plain
from niwaki.compression.pruning.schedules import SCHEDULES
from niwaki.compression.pruning.slots import Slot, check_ratios, ratio_of, slots
from niwaki.core.contract import CallError, GenerativeModel
from niwaki.core.errors import NothingToDo
from niwaki.surgery.sparse import Sparse, patterns

__all__ = ["Sparsified", "choose", "make_sparse", "sparsified"]

Collect = Callable[[GenerativeModel, list[str], int], tuple[GenerativeModel, dict[str, Tensor]]]
"""(model, names of weights, round) → the model trained on, and the movement of these weights meanwhile."""


@dataclass(frozen=True)
class Sparsified:
    """What pruning single weights did.

    model:   the sparse model; its `surgery` names the sparse tensors
    zeros:   weights that are zero, of those that could be pruned
    total:   weights that could be pruned
    skipped: layer → why it was left alone
    """

    model: GenerativeModel
    zeros: int
    total: int
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def reached(self) -> float:
        """Share of zeros, 0 … 1."""
        return self.zeros / self.total


def sparsified(
    model: GenerativeModel,
    config: PruneConfig,
    *,
    evidence: Evidence | None = None,
    recover: Recover | None = None,
    collect: Collect | None = None,
) -> Sparsified:
    """Make `config.ratio` of the weights of a copy of `model` zero, in `config.rounds` rounds.

    evidence: what `taylor` looks at; by default the model's own samples
    recover:  training on, after each round but the last; it must keep the zeros (`surgery.sparse.held`)
    collect:  training on for `movement`, before each round
    Raises NiwakiError where nothing became zero.
    """
    model = copy.deepcopy(model).eval()
    make_plain(model)
    expected, evidence = shapes(model), evidence or Evidence()
    found, skipped = _found(model, config)
    before = _zeros(found)
    for k in range(1, config.rounds + 1):
        if config.importance == "movement":
            if collect is None:
                raise CallError("'movement' is what weights do in training: give it 'train' steps and data")
            model, evidence.moved = collect(model, list(found), k)
            found, _ = _found(model, config)
        scores = criterion_of(config.importance)(model, {n: s.weight for n, s in found.items()}, evidence)
        keep = choose(scores, found, config, SCHEDULES[config.schedule](k, config.rounds), gone(model))
        make_sparse(model, keep, config.pattern)
        if recover is not None and k < config.rounds:
            model = recover(model, k)
            found, _ = _found(model, config)
    check(model, expected)
    zeros = _zeros(found)
    if zeros <= before:
        raise NothingToDo(
            f"pruning made nothing zero: {before} of {_total(found)} weights were zero before, which is "
            f"{before / _total(found):.0%}, and the ratio is {config.ratio:g}; raise it"
        )
    return Sparsified(model, zeros, _total(found), skipped)


def gone(model: GenerativeModel) -> dict[str, Tensor]:
    """Tensors pruned before → True where a weight is zero for good."""
    here = dict(model.named_parameters())
    return {n: (here[n].detach() == 0).cpu() for n in patterns(model)}


def choose(
    scores: dict[str, Tensor],
    found: dict[str, Slot],
    config: PruneConfig,
    share: float,
    gone: dict[str, Tensor],
) -> dict[str, Tensor]:
    """True at the weights that stay, by name, when `share` of the final ratio is to be gone.

    gone: weights pruned before; they go first, and do not come back
    """
    scores = {
        n: s.masked_fill(gone[n], -torch.inf) if n in gone else s for n, s in scores.items()
    }  # in the order of `found`
    if config.pattern:
        n, m = nm(config.pattern)
        stay = m - round((m - n) * share)
        keep = {k: keep_n_of_m(s, stay, m, found[k].axis) for k, s in scores.items()}
    elif config.ranking in ("global", "lamp"):
        ratio = config.ratio * share
        total = sum(s.numel() for s in scores.values())
        ranked = {n: lamp(s) if config.ranking == "lamp" else _over_mean(s) for n, s in scores.items()}
        # As for channels: every layer keeps half of what the same share from all would leave it.
        least = {n: max(1, int(0.5 * (1.0 - ratio) * s.numel())) for n, s in scores.items()}
        keep = keep_global(ranked, total - round(ratio * total), least)
    else:
        densities = _densities(found, config, share)
        keep = {n: keep_highest(s, max(1, round(densities[n] * s.numel()))) for n, s in scores.items()}
    return {n: k & ~gone[n] if n in gone else k for n, k in keep.items()}


def _over_mean(score: Tensor) -> Tensor:
    """Over the layer's mean of what is left, so that the scale of a layer means nothing."""
    size = score[~torch.isinf(score)].double().abs()
    return score.double() / (size.mean().clamp_min(1e-30) if len(size) else 1.0)


def _densities(found: dict[str, Slot], config: PruneConfig, share: float) -> dict[str, float]:
    """Share of its weights that each tensor keeps."""
    own = {n: ratio_of(n, -1.0, config.ratios) for n in found}
    rest = [n for n in found if own[n] < 0]
    if config.ranking == "erk" and rest:
        shared = erk({n: tuple(found[n].weight.shape) for n in rest}, 1.0 - config.ratio * share)
    else:
        shared = dict.fromkeys(rest, 1.0 - config.ratio * share)
    return {n: shared[n] if n in shared else 1.0 - own[n] * share for n in found}


@torch.no_grad()
def make_sparse(model: GenerativeModel, keep: dict[str, Tensor], pattern: str = "") -> None:
    """Zeros where `keep` is False, in place, recorded in the model's surgery."""
    here = dict(model.named_parameters())
    for name, mask in keep.items():
        here[name].masked_fill_(~mask.to(here[name].device), 0.0)
    known = patterns(model)
    new = tuple(n for n in keep if known.get(n) != pattern)
    if new:
        model.surgery = (*model.surgery, Sparse(new, pattern))


def _found(model: GenerativeModel, config: PruneConfig) -> tuple[dict[str, Slot], dict[str, str]]:
    found, skipped = slots(model, config.exclude)
    if config.pattern:
        _, m = nm(config.pattern)
        for name in [n for n, s in found.items() if s.inputs % m]:
            skipped[name] = f"its {found[name].inputs} inputs do not divide into groups of {m}"
            del found[name]
    if not found:
        first = next(iter(skipped.items()), None)
        raise NothingToDo(
            "there are no weights to prune" + (f" (of '{first[0]}': {first[1]})" if first else "")
        )
    check_ratios(config.ratios, list(found))
    return found, skipped


def _total(found: dict[str, Slot]) -> int:
    return sum(s.weight.numel() for s in found.values())


def _zeros(found: dict[str, Slot]) -> int:
    return sum(int((s.weight == 0).sum()) for s in found.values())

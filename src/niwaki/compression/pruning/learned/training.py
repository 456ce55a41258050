"""Pruning by what training finds: gates (L0) on channels or weights, or group lasso; then the cut."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from niwaki.compression.distillation.config import FinetuneConfig
from niwaki.compression.distillation.finetune import train_on
from niwaki.compression.forward import check, shapes
from niwaki.compression.pruning.channels import Pruned, pruned
from niwaki.compression.pruning.config import PruneConfig
from niwaki.compression.pruning.dependencies.dependency_graph import Coupling
from niwaki.compression.pruning.learned.gated import ChannelGates, Gated, WeightGates
from niwaki.compression.pruning.learned.lasso import Shrinking
from niwaki.compression.pruning.patterns import keep_global
from niwaki.compression.pruning.plainly import make_plain
from niwaki.compression.pruning.slots import slots
from niwaki.compression.pruning.weights import Sparsified, gone, make_sparse
from niwaki.core.contract import GenerativeModel, NiwakiError

__all__ = ["learned_channels", "learned_weights"]

Progress = Callable[..., None]


def learned_channels(
    model: GenerativeModel,
    teacher: GenerativeModel,
    split: Any,
    config: PruneConfig,
    settings: FinetuneConfig,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Pruned, float]:
    """Train `config.train` steps with gates or shrinking groups, then cut what closed.

    settings: of the training (`steps` aside)
    Returns the pruned model, trained on, and the share of channels that training closed, 0 … 1.
    Raises NiwakiError where that share is further than `config.tolerance` from the ratio.
    """
    reached = 0.0

    def learn(
        whole: GenerativeModel, free: list[Coupling]
    ) -> tuple[GenerativeModel, dict[str, Tensor], dict[str, int]]:
        nonlocal reached
        run = _gates if config.method == "l0" else _lasso
        done, scores, closed = run(whole, free)
        units = sum(len(s) for s in scores.values())
        reached = sum(int(c.sum()) for c in closed.values()) / units
        return done, scores, {k: len(c) - int(c.sum()) for k, c in closed.items()}

    def _gates(whole: GenerativeModel, free: list[Coupling]) -> Any:
        free = [c for c in free if ChannelGates.gateable(whole, c)]
        if not free:
            raise NiwakiError("no channels can be gated: no convolution or linear layer alone uses them")
        units = {c.key: (c.units,) for c in free}
        both = Gated(
            copy.deepcopy(whole), copy.deepcopy(teacher), settings, units, steps=config.train, **_aim(config)
        )
        gates = ChannelGates(both, free)
        _train(both, split, settings, config, seed, progress)
        gates.settle()
        scores = both.scores()
        keep = keep_global(scores, _count(scores, config, both.closed_share()), _least(free, config))
        return both.student, scores, {k: ~v for k, v in keep.items()}

    def _lasso(whole: GenerativeModel, free: list[Coupling]) -> Any:
        student, least = copy.deepcopy(whole), _least(free, config)
        least_of = [least[c.key] for c in free]
        both = Shrinking(student, copy.deepcopy(teacher), settings, free, least=least_of, **_aim(config))
        _train(both, split, settings, config, seed, progress)
        _refuse_missed(config, sum(int(c.sum()) for c in both.closed) / sum(c.units for c in free))
        return both.student, both.scores(), {c.key: z for c, z in zip(free, both.closed, strict=True)}

    return pruned(model, config, seed=seed, learn=learn), reached


def learned_weights(
    model: GenerativeModel,
    teacher: GenerativeModel,
    split: Any,
    config: PruneConfig,
    settings: FinetuneConfig,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Sparsified, float]:
    """As `learned_channels`, with a gate on every single weight."""
    model = copy.deepcopy(model).eval()
    make_plain(model)
    expected = shapes(model)
    found, skipped = slots(model, config.exclude)
    if not found:
        raise NiwakiError("there are no weights to prune")
    before = gone(model)
    units = {n: tuple(s.weight.shape) for n, s in found.items()}
    both = Gated(model, copy.deepcopy(teacher), settings, units, steps=config.train, **_aim(config))
    gates = WeightGates(both, list(found))
    _train(both, split, settings, config, seed, progress)
    gates.settle()
    scores = {n: s.masked_fill(before[n], -torch.inf) if n in before else s for n, s in both.scores().items()}
    closed = both.closed_share()
    least = {n: max(1, int(0.5 * (1.0 - config.ratio) * s.numel())) for n, s in scores.items()}
    keep = keep_global(scores, _count(scores, config, closed), least)
    keep = {n: k & ~before[n] if n in before else k for n, k in keep.items()}
    done = both.student
    make_sparse(done, keep)
    check(done, expected)
    zeros = sum(int((~k).sum()) for k in keep.values())
    total = sum(k.numel() for k in keep.values())
    return Sparsified(done, zeros, total, skipped), closed


def _aim(config: PruneConfig) -> dict[str, float]:
    return {"ratio": config.ratio, "weight": config.weight}


def _train(
    both: Any, split: Any, settings: FinetuneConfig, config: PruneConfig, seed: int, progress: Progress | None
) -> None:
    train_on(both, split, settings, seed=seed, steps=config.train, progress=progress)
    both.cpu()


def _count(scores: dict[str, Tensor], config: PruneConfig, closed: float) -> int:
    """How many stay, exactly as the ratio says. Raises NiwakiError where training did not come close."""
    _refuse_missed(config, closed)
    total = sum(s.numel() for s in scores.values())
    return total - round(config.ratio * total)


def _least(free: list[Coupling], config: PruneConfig) -> dict[str, int]:
    """Channels that each coupling keeps: half of what an even share would leave, as for `global`."""
    return {
        c.key: max(1, min(config.min_width, c.units), int(0.5 * (1.0 - config.ratio) * c.units)) for c in free
    }


def _refuse_missed(config: PruneConfig, reached: float) -> None:
    if abs(reached - config.ratio) > config.tolerance:
        raise NiwakiError(
            f"'{config.method}' closed {reached:.0%} in {config.train} steps, and the ratio is "
            f"{config.ratio:.0%}; raise 'train' or 'weight', or allow more with 'tolerance'"
        )

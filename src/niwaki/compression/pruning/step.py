"""The step that prunes: which of the ways, by what the config asks for, and how it trains in between."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from niwaki.compression.distillation.config import FinetuneConfig
from niwaki.compression.distillation.distilled import Distilled
from niwaki.compression.distillation.finetune import finetune, train_on
from niwaki.compression.pruning.blocks import drop_blocks
from niwaki.compression.pruning.channels import Recover, pruned
from niwaki.compression.pruning.config import PruneConfig
from niwaki.compression.pruning.frozen import frozen_parts
from niwaki.compression.pruning.importance.criteria import Movement
from niwaki.compression.pruning.importance.evidence import Evidence
from niwaki.compression.pruning.learned.training import learned_channels, learned_weights
from niwaki.compression.pruning.weights import sparsified
from niwaki.compression.steps import Outcome, StepContext, step
from niwaki.core.contract import GenerativeModel

__all__ = ["carry_out"]


@step("prune")
def carry_out(
    model: GenerativeModel, config: PruneConfig, context: StepContext, recover: Recover | None = None
) -> Outcome:
    """Prune a copy of `model`; parts that no phase trains stay as they are.

    recover: (model, round) → model, instead of `config.recover` steps of distillation
    """
    if config.train or (config.recover and recover is None):
        context.training_split()  # said before anything is done
    if recover is None and config.recover:
        recover = _recovery(config, context)
    frozen = tuple(name for name in frozen_parts(model) if name not in config.exclude)
    config = config.model_copy(update={"exclude": (*config.exclude, *frozen)})
    outcome = _WAYS[config.what](model, config, context, recover)
    if not frozen:
        return outcome
    told = f"left as they are, for no phase trains them: {', '.join(frozen)}"
    return replace(outcome, notes=(*outcome.notes, told))


def _channels(
    model: GenerativeModel, config: PruneConfig, context: StepContext, recover: Recover | None
) -> Outcome:
    if config.method != "score":
        split, settings = context.training_split(), _settings(config, context)
        done, reached = learned_channels(
            model,
            context.original,
            split,
            config,
            settings,
            seed=context.seed,
            progress=_on_progress(config, context),
        )
        notes = (f"{config.method} closed {reached:.1%} of the channels",)
        return Outcome(done.model, widths=done.widths, skipped=done.skipped, notes=notes)
    done = pruned(
        model,
        config,
        seed=context.seed,
        evidence=_evidence(context),
        recover=recover,
        condition=context.condition,
    )
    return Outcome(done.model, widths=done.widths, skipped=done.skipped, notes=done.refitted)


def _weights(
    model: GenerativeModel, config: PruneConfig, context: StepContext, recover: Recover | None
) -> Outcome:
    notes: tuple[str, ...] = ()
    if config.method == "l0":
        split, settings = context.training_split(), _settings(config, context)
        done, closed = learned_weights(
            model,
            context.original,
            split,
            config,
            settings,
            seed=context.seed,
            progress=_on_progress(config, context),
        )
        notes = (f"l0 closed {closed:.1%} of the weights",)
    else:
        done = sparsified(
            model,
            config,
            evidence=_evidence(context),
            recover=recover,
            collect=_collect(config, context) if config.train else None,
        )
    zeros = (
        f"{done.zeros} of {done.total} weights are zero ({done.reached:.2%}; asked for {config.ratio:.2%})"
    )
    return Outcome(done.model, skipped=done.skipped, notes=(*notes, zeros))


def _blocks(
    model: GenerativeModel, config: PruneConfig, context: StepContext, recover: Recover | None
) -> Outcome:
    done = drop_blocks(model, config, condition=context.condition, recover=recover)
    notes = tuple(f"dropped '{name}': samples moved by {lost:.3g}" for name, lost in done.damage.items())
    return Outcome(done.model, skipped=done.skipped, notes=notes)


_WAYS: dict[str, Callable[[GenerativeModel, PruneConfig, StepContext, Recover | None], Outcome]] = {
    "channels": _channels,
    "weights": _weights,
    "blocks": _blocks,
}
"""What is pruned → how."""


def _settings(config: PruneConfig, context: StepContext) -> FinetuneConfig:
    """How to train in between: as the fine-tuning that follows in the plan, else as by default."""
    return context.recovery or FinetuneConfig()


def _evidence(context: StepContext) -> Evidence:
    split = None if context.dataset is None else context.training_split()
    return Evidence(split, seed=context.seed, condition=context.condition)


def _recovery(config: PruneConfig, context: StepContext) -> Recover:
    def recover(cut: GenerativeModel, k: int) -> GenerativeModel:
        context.on_progress(k, max(config.rounds, config.count), {"round": k})
        settings = _settings(config, context).model_copy(update={"steps": config.recover})
        return finetune(cut, context.original, context.training_split(), settings, seed=context.seed + k)

    return recover


def _collect(config: PruneConfig, context: StepContext) -> Any:
    """Training on, while the movement of the weights is collected."""

    def collect(
        model: GenerativeModel, names: list[str], k: int
    ) -> tuple[GenerativeModel, dict[str, Tensor]]:
        context.on_progress(k - 1, config.rounds, {"round": k})
        student, settings = copy.deepcopy(model), _settings(config, context)
        both = Distilled(student, copy.deepcopy(context.original), settings)
        here = dict(student.named_parameters())
        watched = Movement({n: here[n] for n in names})
        try:
            done = train_on(
                both, context.training_split(), settings, seed=context.seed + 1000 + k, steps=config.train
            )
        finally:
            watched.close()
        return done, watched.scores

    return collect


def _on_progress(config: PruneConfig, context: StepContext) -> Callable[..., None]:
    def on_progress(done: int, total: int, info: Any) -> None:
        context.on_progress(done, total, info)

    return on_progress

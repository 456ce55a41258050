"""`fit`: the one trainer. A model is trained from its beginning, or from its newest checkpoint, to the end
of its stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from niwaki.core.contract import Trainable
from niwaki.data import Split
from niwaki.nn.low_rank import strip
from niwaki.nn.stochastic_depth import keep_branches
from niwaki.training.activations import release_blocks
from niwaki.training.batch_norms import few_for_batch_norms
from niwaki.training.chance import left_to_chance
from niwaki.training.checkpoint import Checkpoint, latest, list_checkpoints
from niwaki.training.config import TrainConfig
from niwaki.training.entering import Setup
from niwaki.training.failures import lasting
from niwaki.training.feeding import build_feeder
from niwaki.training.hardware import make_fabric, set_layout, settings
from niwaki.training.interrupts import catch_signals
from niwaki.training.loop import Loop
from niwaki.training.metrics import truncate_log
from niwaki.training.post_hoc_tracking import choose_length
from niwaki.training.preference.begin import check_preference
from niwaki.training.resuming import about_of
from niwaki.training.roll_call import calling_roll
from niwaki.training.stages import check_stages
from niwaki.training.state import State
from niwaki.training.step import Batches
from niwaki.training.watcher import Watcher
from niwaki_runtime.errors import CallError
from niwaki_runtime.unfinished import clear_below

__all__ = ["FitResult", "fit"]


@dataclass(frozen=True)
class FitResult:
    """How a training ended.

    steps:              training steps done in all, those before resuming included
    seconds:            time spent in them, without checkpoints and validation
    samples_per_second: those of this call's steps / its seconds; 0 where nothing was left to do
    completed:          whether the last stage reached its end
    last:               the last metrics read, by `phase/name`
    frozen:             SHA-256 of each frozen part, by `stage/name`
    best_step:          step of the best validation of the last stage; 0 where nothing was measured
    best_loss:          its held-out loss; None where nothing was measured
    notes:              what happened on resuming: a broken checkpoint passed over, another machine, length
    longer:             lengths that a stage had before it was made longer, `{at, stage, then, now}`
    looks, told:        what the watch has seen, and the failures that it told (`state`), each with `lasting`,
                        whether the last look shows it too
    health:             how the gradients of every layer fared (`health.Layer`), with `stage` and `layer`
    chosen:             what rules have chosen from the data, `{stage, name, value, text}`
    """

    steps: int
    seconds: float
    samples_per_second: float
    completed: bool
    last: dict[str, float] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    best_step: int = 0
    best_loss: float | None = None
    notes: tuple[str, ...] = ()
    longer: tuple[dict[str, Any], ...] = ()
    looks: tuple[dict[str, Any], ...] = ()
    told: tuple[dict[str, Any], ...] = ()
    chosen: tuple[dict[str, Any], ...] = ()
    health: tuple[dict[str, Any], ...] = ()


def fit(
    model: Trainable,
    split: Split,
    config: TrainConfig,
    *,
    seed: int,
    directory: Path | None = None,
    resume: bool = False,
    progress: Callable[[int, int, dict[str, float]], None] | None = None,
    validation: Split | None = None,
    validate: Callable[[Trainable, int], dict[str, float]] | None = None,
    batches: Batches | None = None,
    about: Mapping[str, Any] | None = None,
    note: Callable[[str], None] | None = None,
    on_validation: Callable[[int, dict[str, float]], None] | None = None,
) -> FitResult:
    """Train `model` in place. On return it holds the averaged weights (where `config.ema` > 0) and is in
    eval mode.

    split:     what it learns from; it is put on the device whole where it takes less than a quarter of its
               memory
    seed:      all randomness follows from it and the step: the order of the data, `ctx.rng`, torch's
               generators
    directory: gets `metrics.jsonl`, `checkpoints/step-0000100/` and `adapters/STAGE.safetensors`; None keeps
               everything in memory
    resume:    go on from the newest whole checkpoint in `directory`; the end is bit for bit that of an
               uninterrupted training on the same machine. A completed training returns at once, or is trained
               on where its stage has more steps now
    progress:  called with (steps done, steps in all, last metrics), a few times a second
    validation: held-out samples for the model's `validation_loss`, recorded as `validation/…`
    validate:  called with (model in eval mode with the averaged weights, steps done); what it returns is
               recorded too. A value named `loss` takes the place of the held-out loss in early stopping
    batches:   another source of batches than the shuffled split; its k-th batch must be a pure function of k
    about:     what else the weights follow from, for resuming: `data`, `model`, … by the recipe's keys;
               default: the content of the split and the model's config
    note:     called with a sentence when a rule has chosen something from the data, when an adversarial
              training is seen to fail (`config.watch`), and beforehand where weights are left to chance
    on_validation: called with (steps done, what a validation has measured); what it raises ends the training

    Raises CallError where config and model do not fit, the checkpoint is of another training, or `directory`
    already holds a training and `resume` is off; NotFinite where a value became NaN or infinite; Interrupted
    after Ctrl-C or SIGTERM, with the state saved; NiwakiError where one of several processes is lost.
    """
    check_stages(model, config)
    check_preference(model, config)
    if note is not None and (left := left_to_chance(model, config)):
        note(
            f"{', '.join(left)}: nothing trains all weights of this, and no train.init_from brings them; "
            "they stay as chance makes them"
        )
    if note is not None and (noisy := few_for_batch_norms(model, config)):
        note(noisy)
    directory = None if directory is None else Path(directory)
    folder = None if directory is None else directory / "checkpoints"
    if resume and folder is None:
        raise CallError("resuming needs the directory that the training was written to")
    if folder is not None and not resume and list_checkpoints(folder):
        raise CallError(f"{directory} already holds a training; resume it, or choose another directory")
    fabric = make_fabric(config, model)
    required = {n: p.requires_grad for n, p in model.named_parameters()}
    model.to(fabric.device)
    near = split if batches else _near(split, fabric.device)

    def feed(settings: TrainConfig, offset: int) -> Batches:
        if batches is not None:
            return batches
        world = fabric.world_size
        place = {"seed": seed, "rank": fabric.global_rank, "world": world, "offset": offset}
        return build_feeder(model, near, config, settings.batch // world, **place)

    checkpoint: Checkpoint | None = None
    notes: list[str] = []
    if folder is not None:
        if fabric.is_global_zero:
            clear_below(folder)
        checkpoint, notes = latest(folder)
    fabric.barrier()  # no process may find a checkpoint that another one has just written
    if about is None:
        about = {} if directory is None else about_of(model, split, whole=batches is None)
    state = State(model, config, seed, fabric.device, about=dict(about))
    state.adapters = directory / "adapters" if directory is not None and fabric.is_global_zero else None
    state.averages = None if directory is None else directory / "averages"
    loop = Loop(
        Setup(fabric, config, feed, model, near),
        state,
        directory=directory,
        progress=progress,
        validate=validate,
        validation=validation,
        watcher=Watcher(
            state,
            split,
            validation,
            note if fabric.is_global_zero else None,
            alone=fabric.world_size == 1,
        ),
        note=note if fabric.is_global_zero else None,
        on_validation=on_validation,
    )
    together = calling_roll(fabric, lambda: state.counters.step, directory)
    try:
        with together, settings(config, fabric.device), catch_signals() as stop:
            loop.begin(checkpoint)
            if fabric.is_global_zero and directory is not None:
                truncate_log(directory / "metrics.jsonl", checkpoint.step if checkpoint else -1)
            before = state.counters.step
            loop.run(stop)
        if state.ema is not None:
            state.ema.assign()
        if state.tracker is not None and (choice := loop.stage.settings.post_hoc) is not None:
            fabric.barrier()  # the snapshots are written by one process and read by all
            text = choose_length(loop, choice, state.tracker.folder, validation)
            if note is not None and fabric.is_global_zero:
                note(text)
        state.settle()
    finally:
        strip(model)  # where the training was broken off, its adapters are in the checkpoint
        _release(model, required)
    model.eval()
    done = state.counters.step - before
    return FitResult(
        steps=state.counters.step,
        seconds=state.seconds,
        samples_per_second=loop.samples / loop.session if done else 0.0,
        completed=True,
        last=state.last,
        frozen=state.frozen,
        best_step=state.history.step,
        best_loss=state.history.best if state.history.step else None,
        notes=(*notes, *loop.notes),
        longer=tuple(state.longer),
        chosen=tuple(state.chosen),
        looks=tuple(state.looks),
        health=tuple(state.health.table()),
        told=tuple({**of, "lasting": lasting(state.looks, of)} for of in state.told),
    )


def _near(split: Split, device: torch.device) -> Split:
    """The split on the device where batches are gathered: the training device, if there is room for it."""
    if device.type != "cuda":
        return split
    size = sum(t.numel() * t.element_size() for t in split.tensors().values())
    return split.to(device) if size < torch.cuda.mem_get_info(device)[0] / 4 else split


def _release(model: nn.Module, required: dict[str, bool]) -> None:
    """Leave the model as it came: plain strides, not compiled, the same parameters open to gradients."""
    set_layout(model, last=False)
    release_blocks(model)
    keep_branches(model)
    for module in model.modules():
        module._compiled_call_impl = None
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(required[name])
        parameter.grad = None

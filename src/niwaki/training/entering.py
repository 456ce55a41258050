"""How a stage is entered: its optimizers, the weights it starts from, what the model makes of its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, Trainable
from niwaki.data import Split
from niwaki.nn.low_rank import is_adapter, restart
from niwaki.nn.stochastic_depth import drop_branches, keep_branches
from niwaki.training.activations import checkpoint_blocks, release_blocks
from niwaki.training.begun import taken_before, trained_before
from niwaki.training.config import TrainConfig
from niwaki.training.hardware import (
    choose_precision,
    compile_networks,
    make_fabric,
    seed_generators,
    set_layout,
    set_matmul_precision,
    wants_channels_last,
)
from niwaki.training.mixing import build_mixer
from niwaki.training.post_hoc_tracking import Tracker
from niwaki.training.preference.begin import begin_preference
from niwaki.training.pretraining import build_pretraining
from niwaki.training.schedule import seed_of
from niwaki.training.stages import Stage, build_stage, frozen_hashes, self_averaged
from niwaki.training.state import State
from niwaki.training.step import Batches, Stepper
from niwaki.training.weights import init_from, sources_of
from niwaki_runtime.errors import CallError

__all__ = ["Setup", "enter_stage"]


class Setup:
    """What all stages share: the devices and the stream of samples.

    fabric: of the whole training
    feed:   (settings, offset) → batches: the k-th of a stage begins at offset + k·batch of the stream
    model:  what is trained
    split:  what it learns from
    """

    def __init__(
        self,
        fabric: Any,
        config: TrainConfig,
        feed: Callable[[TrainConfig, int], Batches],
        model: Trainable,
        split: Split,
    ) -> None:
        self.fabric, self.feed, self.model, self.split = fabric, feed, model, split
        self._by_precision = {choose_precision(config.precision, fabric.device, model): fabric}

    def fabric_of(self, settings: TrainConfig) -> Any:
        """The fabric for the precision of a stage."""
        precision = choose_precision(settings.precision, self.fabric.device, self.model)
        if precision not in self._by_precision:
            self._by_precision[precision] = make_fabric(settings, self.model)
        return self._by_precision[precision]

    def synchronize(self, model: nn.Module) -> None:
        """Every process takes over the weights and buffers of the first."""
        if self.fabric.world_size > 1:
            for tensor in model.state_dict().values():
                torch.distributed.broadcast(tensor, 0)


def enter_stage(setup: Setup, state: State, *, fresh: bool) -> tuple[Stage, Stepper]:
    """The present stage, ready to run.

    fresh: it begins now: weights are taken over and `begin_stage` is called; not so on resuming within it
    """
    model, config, counters, ema = state.model, state.config, state.counters, state.ema
    settings = config.of_stage(config.all_stages[counters.stage])
    if fresh:
        state.settle()
        state.adapt()
    state.channels_last = wants_channels_last(settings.channels_last, model, setup.fabric.device)
    set_layout(model, state.channels_last)
    set_matmul_precision(settings)
    stage = build_stage(model, config, counters.stage, counters.start)
    trained = stage.all_trained
    taken_now: set[str] = set()
    if fresh:
        own = sources_of(stage.config)
        for source in (*sources_of(config), *own) if counters.stage == 0 else own:
            taken = init_from(model, source)
            _restart(ema, taken.names)
            taken_now.update(taken.names)
            if taken.left:
                state.choose(stage.config.name, "init_from", len(taken.names), taken.left)
        if ema is not None and counters.stage:
            # What earlier stages trained is used from now on as it will be used in the end: averaged.
            # An optimizer's own average is where the weights are; what it trained lies beside them.
            before = self_averaged(model, config, counters.stage - 1)
            ema.assign(n for n in ema.values if n not in trained or n in before)
    if ema is not None:
        ema.follow(stage.averaged, stage.made_averages)
    state.tracker = None
    if settings.post_hoc is not None and state.averages is not None:
        folder, writes = state.averages / stage.config.name, setup.fabric.is_global_zero
        asked, steps = settings.post_hoc, stage.config.steps
        state.tracker = Tracker(asked, model, stage.averaged, steps, folder, writes)
    # The next batch begins at the samples drawn so far, whatever the batches before it were.
    offset = counters.samples - counters.batches * settings.batch
    stage.objective = begin_preference(model, config, setup.split, state.seed)
    if stage.objective is not None and settings.mix is not None:
        raise CallError("train.mix and train.prefer exclude each other: preferred samples stay as they are")
    stage.mixer = build_mixer(settings.mix, model, setup.split.spec, state.seed)
    learnt = None if stage.objective is None else stage.objective.learnt
    if fresh and learnt is not None:
        state.choose(stage.config.name, "reward", learnt.accuracy, learnt.text)
    stage.pretraining = build_pretraining(settings.pretrain, model, staged=len(config.all_stages) > 1)
    if stage.pretraining is not None:
        stage.phases = stage.phases[:1]
    own_batches = None if stage.objective is None else stage.objective.batches(settings.batch, offset)
    batches = own_batches or setup.feed(settings, offset)
    stepper = Stepper(setup.fabric_of(settings), state, stage, batches)
    if fresh:
        _begin(setup, state, stage, stepper, taken_now)
        _restart(ema, restart(model))  # magnitudes are those of the weights taken over
        state.history = type(state.history)()
        state.measured.clear()
        state.outliers.clear()
    hashes = frozen_hashes(model, settings.freeze)
    state.frozen |= {f"{stage.config.name}/{n}": h for n, h in hashes.items()}
    for module in model.modules():
        module._compiled_call_impl = None
    keep_branches(model)
    if settings.drop_path:
        _drop_branches(model, stage)
    release_blocks(model)
    checkpoint_blocks(model, settings.activation_checkpointing)
    if settings.compile:
        compile_networks(model, [n for p in stage.phases for n in p.phase.parameters])
    return stage, stepper


def _drop_branches(model: Trainable, stage: Stage) -> None:
    """Raises CallError where the stage trains no residual branch."""
    parts = [name for active in stage.phases for name in active.phase.parameters]
    if not drop_branches(model, parts, stage.settings.drop_path):
        raise CallError(
            "train.drop_path leaves out residual branches, and nothing that the stage "
            f"'{stage.config.name}' trains has any"
        )


def _begin(setup: Setup, state: State, stage: Stage, stepper: Stepper, taken: set[str]) -> None:
    """Let the model see the stage's data before its first step.

    taken: names of what `init_from` has set for this stage
    """
    model: Trainable = state.model
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    first, rank = state.counters.batches, setup.fabric.global_rank
    seed = seed_of(state.seed, "begin", stage.index, rank)
    seed_generators(seed, setup.fabric.device)
    rng = torch.Generator(setup.fabric.device).manual_seed(seed)
    ctx = Context(stage.start, 0.0, stage.config.name, stage.weights, rng)
    tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors |= dict(model.named_buffers(remove_duplicate=False))
    stored = {n for n in model.state_dict() if not is_adapter(n)}
    earlier = taken_before(model, state.config, stage.index)
    # Adapters and tensors that follow from the config come from nowhere, and do not count.
    ctx.taken = frozenset(id(t) for n, t in tensors.items() if n in taken | earlier or n not in stored)
    ctx.trained = frozenset(id(tensors[n]) for n in trained_before(model, state.config, stage.index))

    def batches(k: int) -> Batch:
        return stepper.place(stepper.batches.batch(first + k))

    with torch.no_grad():
        model.begin_stage(ctx, batches)
    for name, (value, text) in ctx.chosen.items():
        state.choose(stage.config.name, name, value, text)
    setup.synchronize(model)
    _restart(state.ema, (n for n, p in model.named_parameters() if not torch.equal(before[n], p)))


def _restart(ema: Any, names: Iterable[str]) -> None:
    """Begin the average of these weights anew, at their present values."""
    if ema is not None:
        ema.restart(n for n in names if n in ema.values)

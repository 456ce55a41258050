"""What one stage of a training does: which parameters, by which optimizers, how fast, and what stays as it
is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from niwaki.core.contract import Phase, Trainable
from niwaki.core.store import hash_tensors
from niwaki.training.averages import Average, build_average
from niwaki.training.config import StageConfig, TrainConfig
from niwaki.training.optimizers import build_optimizer
from niwaki.training.schedules import Schedule, build_schedule
from niwaki.training.settings import DEFAULT
from niwaki.training.user_losses import UserLoss, load_losses
from niwaki_runtime.errors import CallError, nearest

if TYPE_CHECKING:
    from niwaki.training.mixing import Mixer
    from niwaki.training.preference.objective import Objective
    from niwaki.training.pretraining import Pretraining

__all__ = [
    "ActivePhase",
    "Stage",
    "build_stage",
    "check_stages",
    "frozen_hashes",
    "keeps_averages",
    "locate",
    "self_averaged",
    "set_modes",
    "under",
]


@dataclass(frozen=True)
class ActivePhase:
    """A phase with its parameters found. `parameters` are those that it trains in this stage, by name."""

    phase: Phase
    parameters: dict[str, nn.Parameter]
    optimizer: Optimizer


@dataclass
class Stage:
    """One stage under way.

    settings:   those of the training, with what the stage changes
    start:      training steps before it
    rates:      peak learning rate by optimizer name
    weights:    by loss term
    losses:     the user's own, by phase
    optimizers: by optimizer name
    objective:  what is minimised in the place of the model's own loss; None is that loss
    pretraining: what is minimised in the place of the first phase's loss; the others rest then
    mixer:      mixes the samples of a batch; None leaves them apart
    trained:    by optimizer name, the parameters of each: the union over its phases
    average:    decay of the averaged weights by step
    averaging:  names of the optimizers that make their own average
    """

    config: StageConfig
    settings: TrainConfig
    index: int
    start: int
    phases: tuple[ActivePhase, ...]
    optimizers: dict[str, Optimizer]
    trained: dict[str, dict[str, nn.Parameter]]
    rates: dict[str, float]
    weights: dict[str, float]
    schedule: Schedule
    losses: dict[str, tuple[UserLoss, ...]]
    average: Average
    averaging: tuple[str, ...] = ()
    objective: Objective | None = None
    mixer: Mixer | None = None
    pretraining: Pretraining | None = None

    @property
    def end(self) -> int:
        """Training steps up to its last one, where nothing ends it before."""
        return self.start + self.config.steps

    @property
    def all_trained(self) -> dict[str, nn.Parameter]:
        return {n: p for group in self.trained.values() for n, p in group.items()}

    @property
    def averaged(self) -> dict[str, nn.Parameter]:
        """What is trained and averaged as the stage says, not by its optimizer."""
        return {
            n: p for opt, group in self.trained.items() if opt not in self.averaging for n, p in group.items()
        }

    def made_averages(self) -> dict[str, Tensor]:
        """The averages that optimizers make themselves, by parameter, from their first step on."""
        states = {
            n: self.optimizers[opt].state.get(p, {})
            for opt in self.averaging
            for n, p in self.trained[opt].items()
        }
        return {n: state["average"] for n, state in states.items() if state}

    def due(self, step: int) -> list[ActivePhase]:
        """The phases of training step `step` (counted over all stages), in order."""
        return [p for p in self.phases if step % p.phase.every == 0]


def under(name: str, prefixes: Iterable[str]) -> bool:
    """Whether a dotted name is one of the prefixes or lies inside one of them."""
    return any(name == p or name.startswith(p + ".") for p in prefixes)


def locate(config: TrainConfig, step: int) -> tuple[int, int]:
    """Index and first step of the stage that training step `step` belongs to; the last stage for the end."""
    start = 0
    for index, stage in enumerate(config.all_stages):
        if step < start + stage.steps:
            return index, start
        start += stage.steps
    return len(config.all_stages) - 1, start - config.all_stages[-1].steps


def check_stages(model: Trainable, config: TrainConfig) -> None:
    """Raises CallError where the recipe's stages and the model's phases do not fit each other."""
    phases = model.phases()
    known = list(dict.fromkeys(name for p in phases for name in p.stages))
    names = [s.name for s in config.all_stages]
    if known and not config.stages:
        raise CallError(
            f"this model is trained in the stages {', '.join(known)}; list them under train.stages"
        )
    for missing in (k for k in known if k not in names):
        raise CallError(
            f"this model has a stage '{missing}' that train.stages does not name; it has {', '.join(names)}"
        )
    for name in names:
        if not any(p.in_stage(name) for p in phases):
            raise CallError(f"this model has nothing to train in the stage '{name}'; {nearest(name, known)}")
    optimizers = {p.optimizer_name for p in phases} | {DEFAULT}
    for stage in config.all_stages:
        settings = config.of_stage(stage)
        for name in settings.optimizers:
            if name not in optimizers:
                raise CallError(
                    f"train.optimizers names '{name}', but no phase of this model uses it; "
                    f"{nearest(name, optimizers)}"
                )
        if settings.post_hoc is not None and settings.keep_best:
            raise CallError("train.keep_best and train.post_hoc both choose the last weights; give one")
        if config.devices > 1 and settings.precision != config.precision:
            raise CallError(f"the stage '{stage.name}' changes the precision, which needs devices: 1")
        load_losses(settings.losses, phases)


def build_stage(model: Trainable, config: TrainConfig, index: int, start: int) -> Stage:
    """Find the parameters of every phase, build the optimizers, freeze what is to stay, and set the
    modules' modes."""
    stage = config.all_stages[index]
    settings = config.of_stage(stage)
    freeze, adapters = settings.freeze, settings.adapters
    named = dict(model.named_parameters())
    modules = {n for n, _ in model.named_modules() if n}
    for name in freeze:
        if name not in modules and name not in named:
            raise CallError(
                f"stage '{stage.name}' freezes '{name}', which the model has not; {nearest(name, modules)}"
            )
    active: list[tuple[Phase, dict[str, nn.Parameter]]] = []
    trained: dict[str, dict[str, nn.Parameter]] = {}
    for phase in model.phases():
        if not phase.in_stage(stage.name):
            continue
        for name in phase.parameters:
            if name not in modules and name not in named:
                raise CallError(
                    f"phase '{phase.name}' trains '{name}', which the model has not; {nearest(name, modules)}"
                )
        open_ = {n: p for n, p in named.items() if under(n, phase.parameters) and not under(n, freeze)}
        if adapters is not None:
            open_ = {n: p for n, p in open_.items() if adapters.trains(n)}
        if not open_:
            hint = "; name what it is to train in train.adapters (on, also)" if adapters is not None else ""
            raise CallError(
                f"phase '{phase.name}' has no parameters left to train in the stage '{stage.name}'{hint}"
            )
        active.append((phase, open_))
        trained.setdefault(phase.optimizer_name, {}).update(open_)
    owners: dict[str, str] = {}
    for opt, parameters in trained.items():
        for name in parameters:
            if owners.setdefault(name, opt) != opt:
                raise CallError(
                    f"the optimizers '{owners[name]}' and '{opt}' would both train '{name}'; "
                    "give their phases one optimizer"
                )
    for name, parameter in named.items():
        parameter.requires_grad_(name in owners)
    set_modes(model, settings)
    configs = {opt: settings.optimizer_config(opt) for opt in trained}
    optimizers = {opt: build_optimizer(configs[opt], parameters) for opt, parameters in trained.items()}
    return Stage(
        config=stage,
        settings=settings,
        index=index,
        start=start,
        phases=tuple(ActivePhase(p, open_, optimizers[p.optimizer_name]) for p, open_ in active),
        optimizers=optimizers,
        trained=trained,
        rates={opt: config.lr for opt, config in configs.items()},
        weights=settings.loss_weights,
        schedule=build_schedule(settings.schedule),
        losses=load_losses(settings.losses, model.phases()),
        average=build_average(settings.average, settings.ema),
        averaging=tuple(opt for opt, config in configs.items() if config.averages),
    )


def keeps_averages(model: Trainable, config: TrainConfig) -> bool:
    """Whether any stage averages weights."""
    settings = [config.of_stage(s) for s in config.all_stages]
    return any(s.ema > 0 or s.average is not None for s in settings) or any(
        self_averaged(model, config, i) for i in range(len(settings))
    )


def self_averaged(model: Trainable, config: TrainConfig, index: int) -> set[str]:
    """Names of the parameters that the optimizers of a stage average themselves."""
    stage = config.all_stages[index]
    settings = config.of_stage(stage)
    phases = [p for p in model.phases() if p.in_stage(stage.name)]
    parts = [
        name
        for phase in phases
        if settings.optimizer_config(phase.optimizer_name).averages
        for name in phase.parameters
    ]
    names = (n for n, _ in model.named_parameters())
    return {n for n in names if under(n, parts) and not under(n, settings.freeze)}


def set_modes(model: nn.Module, settings: TrainConfig) -> None:
    """Training mode, but evaluation mode for what is frozen: its batch statistics and dropout must not move
    either. Beside adapters, batch norms that are not trained keep their statistics."""
    model.train()
    adapters = settings.adapters
    for name, module in model.named_modules():
        rests = adapters is not None and isinstance(module, _NormBase) and not adapters.trains(name)
        if rests or (name and under(name, settings.freeze)):
            module.eval()


def frozen_hashes(model: nn.Module, frozen: Iterable[str]) -> dict[str, str]:
    """SHA-256 over the tensors of each frozen part."""
    state: Mapping[str, Tensor] = model.state_dict()
    return {
        prefix: hash_tensors(
            {n: t for n, t in state.items() if isinstance(t, torch.Tensor) and under(n, (prefix,))}
        )
        for prefix in frozen
    }

"""What one stage of a training does: which parameters, by which optimizers, how fast, and what stays as it
is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from niwaki.core.contract import Phase, Trainable
from niwaki.core.store import hash_tensors
from niwaki.training.config import StageConfig, TrainConfig
from niwaki.training.optimizers import build_optimizer
from niwaki_runtime.errors import CallError, nearest

__all__ = [
    "ActivePhase",
    "Stage",
    "begin_stage",
    "check_stages",
    "frozen_hashes",
    "locate",
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

    start:      training steps before it
    optimizers: by optimizer name
    trained:    by optimizer name, the parameters of each: the union over its phases
    """

    config: StageConfig
    index: int
    start: int
    phases: tuple[ActivePhase, ...]
    optimizers: dict[str, Optimizer]
    trained: dict[str, dict[str, nn.Parameter]]
    rates: dict[str, float]
    weights: dict[str, float]

    @property
    def all_trained(self) -> dict[str, nn.Parameter]:
        return {n: p for group in self.trained.values() for n, p in group.items()}

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
    known = list(dict.fromkeys(p.stage for p in phases if p.stage is not None))
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
        if not any(p.stage in (None, name) for p in phases):
            raise CallError(f"this model has nothing to train in the stage '{name}'; {nearest(name, known)}")


def begin_stage(model: Trainable, config: TrainConfig, index: int, start: int) -> Stage:
    """Find the parameters of every phase, build the optimizers, freeze what is to stay, and set the
    modules' modes."""
    stage = config.all_stages[index]
    named = dict(model.named_parameters())
    modules = {n for n, _ in model.named_modules() if n}
    for name in stage.freeze:
        if name not in modules and name not in named:
            raise CallError(
                f"stage '{stage.name}' freezes '{name}', which the model has not; {nearest(name, modules)}"
            )
    found: list[tuple[Phase, dict[str, nn.Parameter]]] = []
    trained: dict[str, dict[str, nn.Parameter]] = {}
    for phase in model.phases():
        if phase.stage not in (None, stage.name):
            continue
        for name in phase.parameters:
            if name not in modules and name not in named:
                raise CallError(
                    f"phase '{phase.name}' trains '{name}', which the model has not; {nearest(name, modules)}"
                )
        own = {n: p for n, p in named.items() if under(n, phase.parameters) and not under(n, stage.freeze)}
        if not own:
            raise CallError(
                f"phase '{phase.name}' has no parameters left to train in the stage '{stage.name}'"
            )
        found.append((phase, own))
        trained.setdefault(phase.optimizer_name, {}).update(own)
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
    set_modes(model, stage.freeze)
    rates = {opt: config.rate(stage, opt) for opt in trained}
    optimizers = {
        opt: build_optimizer(
            config.optimizer, parameters, lr=rates[opt], betas=config.betas, weight_decay=config.weight_decay
        )
        for opt, parameters in trained.items()
    }
    return Stage(
        config=stage,
        index=index,
        start=start,
        phases=tuple(ActivePhase(p, own, optimizers[p.optimizer_name]) for p, own in found),
        optimizers=optimizers,
        trained=trained,
        rates=rates,
        weights={**config.loss_weights, **stage.loss_weights},
    )


def set_modes(model: nn.Module, frozen: Iterable[str]) -> None:
    """Training mode, but evaluation mode for what is frozen: its batch statistics and dropout must not move
    either."""
    model.train()
    frozen = tuple(frozen)
    for name, module in model.named_modules():
        if name and under(name, frozen):
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

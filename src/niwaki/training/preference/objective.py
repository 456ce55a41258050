"""Objectives of tuning to a preference, by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from niwaki.core.contract import Batch, Context, GenerativeModel, Trainable
from niwaki.core.registry import import_modules
from niwaki.data import Feeder, Split
from niwaki.training.preference.config import PreferConfig, RewardConfig
from niwaki.training.preference.diversity import Comparison
from niwaki.training.preference.drawing import draw, repeated
from niwaki.training.preference.reward_model import LearntReward, learn_reward
from niwaki.training.preference.rewards import reward_of
from niwaki.training.schedule import seed_of
from niwaki_runtime.errors import CallError, nearest

__all__ = ["Objective", "build_objective", "objective", "objective_names"]


class Objective(ABC):
    """What is minimised in the place of a model's own loss.

    reference: the model as it was, frozen
    split:     the training split
    seed:      all that it draws follows from it, so that a resumed training has the same
    worth:     the reward; None where pairs say what is preferred
    learnt:    the reward where it is learnt from pairs
    """

    def __init__(self, config: PreferConfig, reference: GenerativeModel, split: Split, seed: int) -> None:
        self.config, self.reference, self.split, self.seed = config, reference, split, seed
        self.learnt: LearntReward | None = None
        if isinstance(config.reward, RewardConfig):
            self.learnt = learn_reward(config.reward, reference, split, seed)
        reward = self.learnt if isinstance(config.reward, RewardConfig) else config.reward
        self.worth = None if reward is None else reward_of(reward, config.reward_name, split)
        self.device = next(reference.parameters()).device
        asked = self._on_device(repeated(split, reference.conditions, config.watch, 1))
        self.comparison = Comparison(
            reference, asked, self.worth, config, seed=seed_of(seed, "preference", "watch") % 2**31
        )

    def _on_device(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.to(self.device) for name, value in columns.items()}

    def pool(self, *, plain: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
        """`config.samples` samples of the reference, `group` one after another asked for the same."""
        group = self.config.group
        n = self.config.samples // group * group
        asked = self._on_device(repeated(self.split, self.reference.conditions, n // group, group))
        seed = seed_of(self.seed, "preference", "pool") % 2**31
        return draw(self.reference, n, asked, seed=seed, plain=plain), asked

    def batches(self, size: int, offset: int) -> Feeder | None:
        """Batches of its own, in the place of the training split's."""
        return None

    @abstractmethod
    def terms(self, model: GenerativeModel, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """Loss terms of the phase that is tuned."""

    def loss(self, model: Trainable, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """As `Trainable.loss`: the model's first phase is tuned, others stay its own."""
        if not isinstance(model, GenerativeModel) or phase != model.phases()[0].name:
            return model.loss(phase, batch, ctx)
        return self.terms(model, batch, ctx)


Build = Callable[[PreferConfig, GenerativeModel, Split, int], Objective]
_KNOWN: dict[str, Build] = {}


def objective(name: str) -> Callable[[Any], Any]:
    """Decorator: `prefer.by: name` is this class."""

    def enter(cls: Any) -> Any:
        _KNOWN[name] = cls
        return cls

    return enter


def objective_names() -> list[str]:
    import_modules("niwaki.training.preference")
    return sorted(_KNOWN)


@torch.no_grad()
def build_objective(config: PreferConfig, reference: GenerativeModel, split: Split, seed: int) -> Objective:
    """Raises CallError for a name that is none, and what its class raises."""
    names = objective_names()
    if config.by not in names:
        raise CallError(f"train.prefer.by: there is no '{config.by}'; {nearest(config.by, names)}")
    return _KNOWN[config.by](config, reference, split, seed)

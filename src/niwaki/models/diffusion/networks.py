"""Which networks a denoiser can be: chosen by name, whatever the process and whatever is noised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar, cast

from pydantic import ValidationError
from torch import nn

from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import CallError, ConditionSpec
from niwaki.core.registry import Registry
from niwaki.core.sentences import sentence
from niwaki.models.diffusion.config import DenoiserConfig

__all__ = ["NETWORKS", "NetworkKind", "Task", "build_network", "network_kind", "network_settings"]


@dataclass(frozen=True)
class Task:
    """What a denoiser is given and says.

    channels, height, width: of x_t
    classes:  of the label, the first condition, as a number; 0 for none
    null:     whether the number `classes` is a label, too, which asks for nothing
    encoded:  shapes of the other conditions per sample, as their encoders say them: `(k,)` or `(tokens, k)`
    estimate: whether an estimate of x₀ is the last input
    variance: whether it says a share of each variance beside the prediction
    """

    channels: int
    height: int
    width: int
    classes: int = 0
    null: bool = False
    encoded: tuple[tuple[int, ...], ...] = ()
    estimate: bool = False
    variance: bool = False


class NetworkKind(Protocol):
    """The class of a denoiser's network: x_t, t `(n,)` and conditions → what the config's `prediction` says,
    or with a share of each variance.

    Config:        its settings beside the `name` in `model.network`
    takes_numbers: whether it takes a label as a number; otherwise labels are encoded, too
    asks_texts:    whether a model of pixels asks it for texts where the data have them
    """

    name: ClassVar[str]
    Config: ClassVar[type[BaseConfig]]
    takes_numbers: ClassVar[bool]
    asks_texts: ClassVar[bool]

    @classmethod
    def encoder(cls, config: DenoiserConfig, settings: Any, asked: ConditionSpec, blank: int | None) -> Any:
        """The network that encodes a condition, tokens or a label; its `shape` is that of what it says.

        blank: the token that stands for nothing, of a text; None for a label
        """

    @classmethod
    def for_task(cls, config: DenoiserConfig, settings: Any, task: Task) -> Any:
        """The network of a task. Raises CallError where it does not fit."""


Kind = TypeVar("Kind")


class _Networks(Registry[nn.Module]):
    def register(self, name: str) -> Callable[[Kind], Kind]:
        return super().register(name)


NETWORKS = _Networks("network", ("niwaki.models.diffusion",))


def network_kind(config: DenoiserConfig) -> NetworkKind:
    """The class that `config.network` names. Raises CallError where there is none of that name."""
    return cast(NetworkKind, NETWORKS[str(config.network.get("name", ""))])


def network_settings(config: DenoiserConfig) -> BaseConfig:
    """The rest of `config.network`, checked. Raises CallError in one sentence for a wrong key or value."""
    kind = network_kind(config)
    given: Mapping[str, Any] = {k: v for k, v in config.network.items() if k != "name"}
    try:
        return kind.Config.model_validate(given)
    except ValidationError as error:
        who = f"the network '{kind.name}'"
        raise CallError(sentence(error, kind.Config, who, "model.network")) from None


def build_network(config: DenoiserConfig, task: Task) -> nn.Module:
    """A fresh network for `task`, weights drawn from torch's global generator."""
    return cast(nn.Module, network_kind(config).for_task(config, network_settings(config), task))

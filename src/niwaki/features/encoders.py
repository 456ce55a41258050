"""Encoders: networks that learn from unlabelled samples what to look at, and the networks they are made of.

An encoder is one file: a class, a registered name, a config. Being registered it can be named by a recipe
(`model: {name: simclr}`) and as features (`features: [simclr]`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import Field
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, DataSpec, Trainable
from niwaki.core.registry import Registry
from niwaki.features.units import Units, units_of
from niwaki.models.io import ENCODER
from niwaki.models.registry import ModelConfig, checked
from niwaki.nn.augment.views import Augment
from niwaki.nn.layers.grids import grid_of

__all__ = [
    "ContrastiveConfig",
    "Encoder",
    "EncoderConfig",
    "build_encoder",
    "encoder_config",
    "encoder_names",
    "projector",
    "register_encoder",
    "registered_encoder",
]


class EncoderConfig(ModelConfig):
    """
    augment: how the views of a sample differ
    """

    augment: Augment = Augment()


class Encoder(Trainable):
    """What every encoder is: built from its config and the spec of its samples alone, weights drawn from
    torch's global generator.

    name, config: how to build it again; set by registering and by the constructor
    units:        brings columns of different units to one scale, from the first batches of training; what
                  looks at samples looks through it
    dim:          number of features
    batch, lr:    what it is trained with where nobody says otherwise (`features: [simclr]`)
    views:        of each sample that a step of training looks at
    """

    kind = ENCODER
    name: str
    Config: type[Any]
    config: Any
    spec: DataSpec
    surgery: tuple[Any, ...] = ()
    dim: int
    batch: int = 256
    lr: float = 2e-3
    views: int = 2

    def __init__(self, config: EncoderConfig, spec: DataSpec) -> None:
        super().__init__()
        self.refuse(spec)
        self.config = config
        self.spec = spec
        self.units = units_of(spec)

    def begin_stage(self, ctx: Context, batches: Callable[[int], Batch]) -> None:
        if isinstance(self.units, Units):
            self.units.fit_batches(batches)

    @classmethod
    def refuse(cls, spec: DataSpec) -> None:
        """Raises CallError in one sentence for samples that this encoder cannot look at."""
        grid_of(spec, f"'{cls.name}'")

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Samples (n, *shape) in the spec's range → features (n, dim)."""

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)


Kind = TypeVar("Kind", bound=type[Encoder])

_ENCODERS: Registry[Encoder] = Registry(
    "encoder",
    ("niwaki.features.simclr", "niwaki.features.moco", "niwaki.features.mae", "niwaki.features.motion"),
)


def register_encoder(name: str) -> Callable[[Kind], Kind]:
    """Class decorator. The class has `Config` (an EncoderConfig), takes `(config, spec)`, and gains
    `name`."""
    return _ENCODERS.register(name)


def encoder_names() -> list[str]:
    """All registered encoders, the built-in ones loaded."""
    return _ENCODERS.names()


def registered_encoder(name: str) -> type[Encoder]:
    """Raises CallError with the nearest name where there is no such encoder."""
    return _ENCODERS[name]


def encoder_config(name: str, values: Mapping[str, Any]) -> EncoderConfig:
    """The checked config of an encoder. Raises CallError in one sentence for a wrong key or value."""
    config = checked(registered_encoder(name).Config, name, values)
    assert isinstance(config, EncoderConfig)
    return config


def build_encoder(name: str, config: Mapping[str, Any] | EncoderConfig, spec: DataSpec) -> Encoder:
    """A fresh encoder for samples of `spec`. Raises CallError where it cannot look at them."""
    given = config if isinstance(config, EncoderConfig) else encoder_config(name, config)
    return registered_encoder(name)(given, spec)


# ── the networks of the contrastive encoders


class ContrastiveConfig(EncoderConfig):
    """
    width:       channels of the convolutions; of vectors the dense layers have 4·width units
    features:    length of the representation: what is kept
    projection:  length of what the loss compares: the projector's output
    temperature: τ of the loss
    """

    width: int = Field(64, ge=16, multiple_of=16)
    features: int = Field(128, ge=2)
    projection: int = Field(64, ge=2)
    temperature: float = Field(0.2, gt=0)


def projector(features: int, projection: int) -> nn.Sequential:
    """One hidden layer between the representation and what the loss compares; thrown away afterwards (Chen et
    al. 2020, section 4.2)."""
    return nn.Sequential(
        nn.Linear(features, features),
        nn.LayerNorm(features),
        nn.ReLU(),
        nn.Linear(features, projection, bias=False),
    )

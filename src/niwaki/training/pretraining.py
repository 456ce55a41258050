"""Self-supervised pre-training of the encoder that a model has: what a stage with `pretrain` minimises in the
place of the model's own loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from niwaki.core.contract import Batch, Context, GenerativeModel, Trainable
from niwaki.nn.augment.views import augment
from niwaki.nn.contrastive import nt_xent
from niwaki.training.pretrain_config import PretrainConfig
from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.samplers.base import Noise

__all__ = ["Pretraining", "build_pretraining", "pretraining_names"]

ENCODE = "encode"
"""The program by which a model encodes."""

Loss = Callable[["Pretraining", GenerativeModel, Batch, Context], dict[str, Tensor]]
_KNOWN: dict[str, Loss] = {}


def pretraining(name: str) -> Callable[[Loss], Loss]:
    """Decorator: `pretrain.by: name` is this function."""

    def enter(function: Loss) -> Loss:
        _KNOWN[name] = function
        return function

    return enter


def pretraining_names() -> list[str]:
    return sorted(_KNOWN)


class Pretraining:
    """As an objective of preference tuning, for one stage."""

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config

    def loss(self, model: Trainable, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        assert isinstance(model, GenerativeModel)
        return _KNOWN[self.config.by](self, model, batch, ctx)

    def encoded(self, model: GenerativeModel, batch: Batch, x: Tensor) -> Tensor:
        """What the program `encode` makes of samples `(k·n, *shape)`, k of them for each row of the batch, as
        rows of numbers, with gradients."""
        program = model.program(ENCODE)
        times = len(x) // len(batch)
        asked = {name: torch.cat([batch[name]] * times) for name in program.inputs if name in batch}
        noise = Noise(model.backend(), 0, 0, len(x))
        made: Tensor = program.sampler(model.graphs(), noise, {**asked, "x": x})
        return made.flatten(1)


@pretraining("simclr")
def _simclr(self: Pretraining, model: GenerativeModel, batch: Batch, ctx: Context) -> dict[str, Tensor]:
    """Two views of a sample are encoded alike, and unlike those of others (Chen et al. 2020). There is no
    projection head: it is the latents themselves that the training after it goes on with."""
    views = augment(torch.cat([batch.x, batch.x]), model.spec, self.config.augment, ctx.rng)
    a, b = self.encoded(model, batch, views).chunk(2)
    return {"nt_xent": nt_xent(a, b, self.config.temperature)}


def build_pretraining(config: PretrainConfig | None, model: Trainable, *, staged: bool) -> Pretraining | None:
    """Raises CallError for a model that does not encode into amounts, and for a training of one stage, after
    which nothing would follow.

    staged: whether it is one of several stages
    """
    if config is None:
        return None
    if config.by not in _KNOWN:
        raise CallError(f"pretrain.by: there is no '{config.by}'; {nearest(config.by, _KNOWN)}")
    if not staged:
        raise CallError(
            "train.pretrain is a setting of a stage, which another one follows that trains the model"
        )
    if not isinstance(model, GenerativeModel) or ENCODE not in model.programs():
        raise CallError("train.pretrain trains the encoder that a model has, and this one has none")
    if model.program(ENCODE).output.is_tokens:
        raise CallError("train.pretrain needs an encoder of amounts, and this one's are codes")
    return Pretraining(config)

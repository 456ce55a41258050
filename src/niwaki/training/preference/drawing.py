"""Samples that a model in training makes, and how likely it takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from niwaki.core.contract import Batch, Context, GenerativeModel, Runner
from niwaki.data import Split

__all__ = ["as_used", "asked_of", "draw", "likelihoods", "repeated"]

PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "penalty": 1.0, "beams": 1}
"""Settings of samplers with which samples come from the model's own distribution."""


@contextmanager
def as_used(model: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout: the model as it was and as it is must differ by their weights alone), and
    each module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def asked_of(model: Runner, rows: Mapping[str, Tensor] | Batch) -> dict[str, Tensor]:
    """What a batch's samples are known by that the model can be asked for."""
    return {name: rows[name] for name in model.conditions if name in rows}


def draw(model: GenerativeModel, n: int, asked: Mapping[str, Tensor], *, seed: int, plain: bool) -> Tensor:
    """Samples `(n, *shape)`, without gradients.

    plain: from the model's distribution, whatever its sampler is set to
    """
    options = PLAIN.keys() & model.sampler().options() if plain else ()
    with as_used(model), torch.no_grad(), torch.autocast(next(model.parameters()).device.type, enabled=False):
        made: Tensor = model.run(
            "sample", n, seed=seed, inputs=dict(asked) or None, **{name: PLAIN[name] for name in options}
        )
    return made


def likelihoods(model: GenerativeModel, batch: Batch, ctx: Context, state: Tensor) -> Tensor:
    """`log_likelihoods` `(n,)` with random numbers from `state` on: those of several models, and of chosen
    and rejected samples, are compared at the same noise."""
    ctx.rng.set_state(state)
    with as_used(model):
        return model.log_likelihoods(batch, ctx).float()


def repeated(split: Split, names: Mapping[str, object], questions: int, group: int) -> dict[str, Tensor]:
    """What the first rows ask for, each `group` times; rows come round again where there are too few."""
    at = (torch.arange(questions) % len(split)).repeat_interleave(group)
    return {name: split.column(name).values(at.to(split.x.device)) for name in names if name in split.columns}

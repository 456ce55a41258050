"""The seven shapes, each with data that fits it and a training short enough for a test."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from niwaki import data
from niwaki.core.contract import DataSpec, GenerativeModel
from niwaki.data import Column, Split
from niwaki.models.registry import build
from niwaki.training import StageConfig, TrainConfig


def digits() -> Split:
    return data.load(data.DataConfig(source="digits")).train


def two_domains() -> Split:
    """Digits and, unpaired, their negatives."""
    split = digits()
    negatives = Column(split.spec.x, (split.spec.levels - 1 - split.x).flip(0), paired=False)
    return replace(split, columns={**split.columns, "x_b": negatives})


def vectors() -> Split:
    """A ring of eight Gaussians."""
    g = torch.Generator().manual_seed(0)
    angle = torch.randint(8, (1024,), generator=g) * torch.pi / 4
    centre = torch.stack([angle.cos(), angle.sin()], 1)
    x = centre + 0.05 * torch.randn(1024, 2, generator=g)
    return Split.of(DataSpec.of("vector", (2,)), x)


def tokens() -> Split:
    """The digits' pixels at half the resolution, as sequences of 16 tokens of 17 levels."""
    x: Tensor = digits().x.float()
    x = torch.nn.functional.avg_pool2d(x, 2).round().flatten(1).to(torch.uint8)
    return Split.of(DataSpec.of("text", (16,), levels=17), x)


@dataclass(frozen=True)
class Shape:
    """module: where the model is registered; split: its data; stages: of training; ask: a condition."""

    module: str
    split: Callable[[], Split]
    stages: tuple[str, ...] = ()
    ask: Callable[[int], Any] = lambda n: None


SHAPES = {
    "contract-wgan-gp": Shape("contract.wgan_gp", vectors),
    "contract-cycle": Shape(
        "contract.cycle", two_domains, ask=lambda n: {"source": digits().values()[:n].numpy()}
    ),
    "contract-growing": Shape("contract.growing", digits, stages=("low", "high")),
    "contract-vq-prior": Shape("contract.vq_prior", digits, stages=("autoencoder", "prior")),
    "contract-kv-transformer": Shape("contract.kv_transformer", tokens),
    "contract-coupling-flow": Shape("contract.coupling_flow", vectors),
    "contract-token-denoiser": Shape("contract.token_denoiser", digits, ask=lambda n: {"tokens": _names(n)}),
}


def _names(n: int) -> Any:
    from contract.token_denoiser import NAMES, spelled

    return torch.tensor([spelled(NAMES[i % 10]) for i in range(n)]).numpy()


def make(name: str) -> tuple[GenerativeModel, Split]:
    """The model, always with the same weights, and its data."""
    importlib.import_module(SHAPES[name].module)
    split = SHAPES[name].split()
    torch.manual_seed(0)
    return build(name, {}, split.spec), split


def settings(name: str, steps: int = 12) -> TrainConfig:
    stages = tuple(StageConfig(name=s, steps=steps // 2) for s in SHAPES[name].stages)
    return TrainConfig(
        steps=steps, batch=32, stages=stages, checkpoint_every=4, log_every=4, ema=0.9, lr=1e-3
    )

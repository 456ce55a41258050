"""γ of R1 and R2 by a rule from the data, where a recipe says `auto`."""

from __future__ import annotations

import math

import torch

from niwaki.core.contract import CallError, Context, DataSpec

__all__ = ["choose_gamma", "gamma_rule"]

FACTOR = 0.0002


def gamma_rule(pixels: int, batch: int, *, low: float = -1.0, high: float = 1.0) -> float:
    """γ = 0.0002 · pixels / batch, the rule of StyleGAN2-ADA (Karras et al. 2020; `train.py`, `cfg=auto`:
    "gamma = 0.0002 * (res ** 2) / spec.mb"), for values in low … high.

    It was made for −1 … 1. The same images in a range s times as wide have gradients 1/s times as large, and
    their squares are to weigh the same: γ grows by s².

    >>> gamma_rule(256 * 256, 64)
    0.2048
    >>> gamma_rule(256 * 256, 64, low=0, high=1)
    0.0512
    """
    return FACTOR * pixels / batch * ((high - low) / 2) ** 2


def choose_gamma(name: str, spec: DataSpec, batch: int, ctx: Context) -> float:
    """The rule for a data set and the batch of a training step, which is recorded and said.

    batch: samples on this process
    Raises CallError for what are no images in a range.
    """
    if spec.axes != "CHW" or not math.isfinite(spec.high - spec.low):
        raise CallError(f"model.{name}: auto is a rule for images; give a number for {spec.modality}")
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    whole = batch * (torch.distributed.get_world_size() if several else 1)
    _, height, width = spec.shape
    gamma = gamma_rule(height * width, whole, low=spec.low, high=spec.high)
    ctx.choose(
        name,
        gamma,
        f"{name} is {gamma:.3g}: {FACTOR} · {height}·{width} pixels / {whole} samples"
        + ("" if spec.high - spec.low == 2 else f" · {(spec.high - spec.low) / 2:g}²"),
    )
    return gamma

"""A diffusion process on tensors: what losses and distillation ask of it, each sample at its own time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from niwaki_runtime.process import Process
from niwaki_runtime.process.conversions import Conversion
from niwaki_runtime.samplers.backend import outputs

__all__ = ["TensorProcess", "columns", "drop_labels", "last_estimate", "noised"]


class TensorProcess(nn.Module):
    """The process that the sampler reads, for times `(n,)` that are tensors.

    Discrete processes are two tables, made in float64; the others are their own formulas.
    """

    alphas: Tensor  # (timesteps,), empty for a continuum
    sigmas: Tensor

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        table = [process.alpha_sigma(t) for t in range(process.timesteps)]
        levels = torch.tensor(table, dtype=torch.float64).reshape(-1, 2).float()
        self.register_buffer("alphas", levels[:, 0].contiguous(), persistent=False)
        self.register_buffer("sigmas", levels[:, 1].contiguous(), persistent=False)

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Times `(n,)` as training draws them: int64 where they are discrete, else float32."""
        device = self.alphas.device
        if self.process.timesteps:
            return torch.randint(0, self.process.timesteps, (n,), generator=rng, device=device)
        return self.process.training_time(torch.randn((n,), generator=rng, device=device), torch)

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(α, σ) at times that `draw` may give, each `(n,)`."""
        if self.process.timesteps:
            return self.alphas[t], self.sigmas[t]
        return self.process.alpha_sigma(t, torch)

    def before(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(α, σ) one timestep before each of `t`: (1, 0) before the first."""
        first, at = t == 0, (t - 1).clamp(min=0)
        a, s = self.alphas[at], self.sigmas[at]
        return torch.where(first, torch.ones_like(a), a), torch.where(first, torch.zeros_like(s), s)

    def least_posterior(self) -> Tensor:
        """β̃ of the second timestep: the least variance above 0 of q(x_{t−1} | x_t, x₀)."""
        a, s = self.alphas[:2], self.sigmas[:2]
        return (s[0] / s[1]).square() * (1.0 - (a[1] / a[0]).square())

    def network_time(self, t: Tensor) -> Tensor:
        """What the network is told of the time, float32 `(n,)`."""
        return self.process.network_time(t, torch).float()


def noised(x0: Tensor, eps: Tensor, a: Tensor, s: Tensor) -> Tensor:
    """x_t = α x₀ + σ ε; a and s are `(n,)` or broadcast against x₀."""
    a, s = columns(a, x0), columns(s, x0)
    return a * x0 + s * eps


def columns(value: Tensor, like: Tensor) -> Tensor:
    """One value per sample `(n,)` as it broadcasts against samples `(n, …)`."""
    return value.reshape(-1, *(1,) * (like.ndim - 1)) if value.ndim == 1 else value


@torch.no_grad()
def last_estimate(
    network: Callable[..., Any],
    inputs: Sequence[Tensor],
    known: Conversion,
    noisy: tuple[Tensor, Tensor, Tensor],
    clip: float,
    rng: torch.Generator,
) -> Tensor:
    """What a self-conditioned network is given as its last estimate in training: the x₀ that it says without
    one, for half of the samples, and zeros for the others (Chen, Zhang & Hinton 2022, Algorithm 1, with one
    coin per sample).

    inputs: all but the estimate
    known:  what the network says
    noisy:  x_t, α and σ
    clip:   bound of |x₀| in sampling, 0 for none
    """
    x, a, s = noisy
    said, *_ = outputs(network(*inputs, torch.zeros_like(x)))
    guess, _ = known.to_x0_eps(x, said.float(), a, s)
    if clip > 0.0:
        guess = guess.clip(-clip, clip)
    coins = torch.rand((len(x),), generator=rng, device=x.device) < 0.5
    return torch.where(columns(coins, x), guess, torch.zeros_like(x))


def drop_labels(y: Tensor, null: int, share: float, rng: torch.Generator) -> Tensor:
    """`y` with each label replaced by `null` with probability `share`: one coin per sample, not per batch
    (Ho & Salimans 2022, Algorithm 1)."""
    coins = torch.rand(y.shape, generator=rng, device=y.device)
    return torch.where(coins < share, torch.full_like(y, null), y)

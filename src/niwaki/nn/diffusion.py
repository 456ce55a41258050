"""A diffusion process on tensors: what losses and distillation ask of it, each sample at its own time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from niwaki_runtime.process import Process

__all__ = ["TensorProcess", "columns", "drop_labels", "noised"]


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


def drop_labels(y: Tensor, null: int, share: float, rng: torch.Generator) -> Tensor:
    """`y` with each label replaced by `null` with probability `share`: one coin per sample, not per batch
    (Ho & Salimans 2022, Algorithm 1)."""
    coins = torch.rand(y.shape, generator=rng, device=y.device)
    return torch.where(coins < share, torch.full_like(y, null), y)

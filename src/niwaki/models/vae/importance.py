"""Several samples of z for each x: the bound of Burda, Grosse & Salakhutdinov 2016 (IWAE)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["log_mean_exp", "repeat_rows", "tile_rows"]


def repeat_rows(t: Tensor, k: int) -> Tensor:
    """`(n, …)` → `(n·k, …)`, each row k times in a row."""
    return t.unsqueeze(1).expand(t.shape[0], k, *t.shape[1:]).reshape(-1, *t.shape[1:])


def tile_rows(t: Tensor, k: int) -> Tensor:
    """`(n, …)` → `(k·n, …)`, all rows k times after each other."""
    return t.unsqueeze(0).expand(k, *t.shape).reshape(-1, *t.shape[1:])


def log_mean_exp(log_weights: Tensor, k: int) -> Tensor:
    """log 1/k Σ w of `(n·k,)` → `(n,)`: with w = p(x, z)/q(z | x) in expectation at most log p(x), and nearer
    to it the larger k."""
    return torch.logsumexp(log_weights.unflatten(0, (-1, k)), 1) - math.log(k)

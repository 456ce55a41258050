"""Choosing single weights: exactly as many as were asked for, ties always in the same way."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from niwaki.core.contract import CallError

__all__ = ["erk", "keep_global", "keep_highest", "keep_n_of_m", "lamp"]


def keep_highest(scores: Tensor, count: int) -> Tensor:
    """True at the `count` highest of `scores`, in their shape; of equal ones the earlier stay."""
    order = torch.argsort(scores.flatten(), descending=True, stable=True)[:count]
    keep = torch.zeros(scores.numel(), dtype=torch.bool)
    keep[order] = True
    return keep.reshape(scores.shape)


def keep_global(scores: Mapping[str, Tensor], count: int, least: Mapping[str, int]) -> dict[str, Tensor]:
    """The `count` highest of all tensors together, but at least `least` of each: masks by name.

    What a tensor's floor brings in is taken from the weakest of the others, so the count is exact.
    """
    floors = {n: keep_highest(s, min(least.get(n, 0), s.numel())) for n, s in scores.items()}
    lifted = [torch.where(floors[n], torch.inf, s.double()).flatten() for n, s in scores.items()]
    chosen = keep_highest(torch.cat(lifted), count)
    parts = chosen.split([s.numel() for s in scores.values()])
    return {n: part.reshape(s.shape) for (n, s), part in zip(scores.items(), parts, strict=True)}


def keep_n_of_m(scores: Tensor, n: int, m: int, axis: int) -> Tensor:
    """True at the n highest of every m neighbours along `axis`, in the shape of `scores`.

    Raises CallError where the axis does not divide into groups of m.
    """
    width = scores.shape[axis]
    if width % m:
        raise CallError(f"an axis of {width} does not divide into groups of {m}")
    rows = scores.movedim(axis, -1)
    groups = rows.reshape(-1, m)
    order = torch.argsort(groups, dim=1, descending=True, stable=True)[:, :n]
    keep = torch.zeros(groups.shape, dtype=torch.bool).scatter_(1, order, True)
    return keep.reshape(rows.shape).movedim(-1, axis)


def lamp(scores: Tensor) -> Tensor:
    """What a weight is of all that is at least as strong in its layer, in the shape of `scores`.

    Layer-adaptive magnitude-based pruning (Lee et al. 2021, "Layer-adaptive sparsity for the magnitude-based
    pruning", eq. 4): lamp(u) = s_u² / Σ_{v ≥ u} s_v², with the weights sorted upwards. The strongest of every
    layer has 1, so no layer vanishes. Scores of −∞ (gone already) stay.
    """
    flat = scores.double().flatten()
    gone = torch.isinf(flat)
    order = torch.argsort(flat.masked_fill(gone, -1.0), stable=True)
    squares = flat.masked_fill(gone, 0.0)[order].square()
    rest = squares.flip(0).cumsum(0).flip(0)
    out = torch.empty_like(flat)
    out[order] = squares / rest.clamp_min(torch.finfo(torch.float64).tiny)
    return out.masked_fill(gone, -torch.inf).reshape(scores.shape)


def erk(shapes: Mapping[str, tuple[int, ...]], density: float) -> dict[str, float]:
    """Share of weights that each tensor keeps, `density` over all of them.

    Erdős–Rényi-kernel (Evci et al. 2020, "Rigging the lottery", Section 3): in proportion to
    (n_in + n_out + k_w + k_h) / (n_in · n_out · k_w · k_h); layers that would have to keep more than all
    are dense, and the others share what is left.
    """
    size = {n: torch.Size(s).numel() for n, s in shapes.items()}
    raw = {n: sum(s) / size[n] for n, s in shapes.items()}
    dense: set[str] = set()
    while True:
        left = density * sum(size.values()) - sum(size[n] for n in dense)
        free = [n for n in shapes if n not in dense]
        scale = left / sum(raw[n] * size[n] for n in free) if free else 0.0
        full = {n for n in free if scale * raw[n] >= 1.0}
        if not full:
            return {n: 1.0 if n in dense else scale * raw[n] for n in shapes}
        dense |= full

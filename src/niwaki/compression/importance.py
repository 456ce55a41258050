"""How much a channel matters: one function per criterion, over all that is coupled to the channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from niwaki.compression.coupling import Coupling
from niwaki.contract import CallError, GenerativeModel, nearest
from niwaki.nn.surgery import find, per_position

__all__ = ["Importance", "gathered", "importance", "importance_of"]

Importance = Callable[[GenerativeModel, Sequence[Coupling]], list[Tensor]]
"""(model, couplings) → one score per unit `(units,)` for each coupling; the highest are kept."""

_CRITERIA: dict[str, Importance] = {}


def importance(name: str) -> Callable[[Importance], Importance]:
    """Decorator: register a criterion."""

    def enter(function: Importance) -> Importance:
        _CRITERIA[name] = function
        return function

    return enter


def importance_of(name: str) -> Importance:
    """Raises CallError with the nearest name."""
    if name not in _CRITERIA:
        raise CallError(f"there is no importance '{name}'; {nearest(name, _CRITERIA)}")
    return _CRITERIA[name]


@torch.no_grad()
def gathered(model: GenerativeModel, coupling: Coupling, value: Callable[[Tensor], Tensor]) -> Tensor:
    """Σ of `value(parameter)` over every slice coupled to each unit: `(units,)` float64."""
    total = torch.zeros(coupling.units, dtype=torch.float64)
    for member in coupling.members:
        each = per_position(find(model, member.module), member.side, value).double().cpu()
        counts = torch.tensor([len(p) for p in member.positions])
        owner = torch.repeat_interleave(torch.arange(coupling.units), counts)
        where = torch.tensor([p for positions in member.positions for p in positions], dtype=torch.long)
        total.index_add_(0, owner, each[where])
    return total


@importance("magnitude")
def magnitude(model: GenerativeModel, couplings: Sequence[Coupling]) -> list[Tensor]:
    """Group L2 norm √(Σ w²) over all coupled slices, divided by its mean in the group (Fang et al. 2023,
    Section 3.3)."""
    scores = []
    for coupling in couplings:
        norm = gathered(model, coupling, lambda p: p.detach().square()).sqrt()
        scores.append(norm / norm.mean().clamp_min(1e-12))
    return scores


@importance("random")
def random(model: GenerativeModel, couplings: Sequence[Coupling]) -> list[Tensor]:
    """No criterion at all: what any other must beat."""
    rng = torch.Generator().manual_seed(0)
    return [torch.rand(c.units, generator=rng, dtype=torch.float64) for c in couplings]

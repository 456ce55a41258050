"""How much a channel matters: one function per criterion, over all that is coupled to the channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from niwaki.compression.forward import outputs
from niwaki.compression.pruning.dependencies.dependency_graph import Coupling, Member
from niwaki.compression.pruning.importance.evidence import Evidence
from niwaki.compression.seeds import CALIBRATION
from niwaki.core.contract import CallError, GenerativeModel, nearest
from niwaki.surgery.cuts import find, per_position
from niwaki.surgery.layouts import layout_of

__all__ = ["Importance", "gathered", "importance", "importance_of"]


class Importance(Protocol):
    """(model, couplings, evidence) → one score per unit `(units,)` for each coupling; the highest are kept.

    evidence: what criteria that look at data are given; None is a default of theirs
    """

    def __call__(
        self, model: GenerativeModel, couplings: Sequence[Coupling], evidence: Evidence | None = None, /
    ) -> list[Tensor]: ...


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
        _add(total, member, per_position(find(model, member.module), member.side, value).double().cpu())
    return total


def _add(total: Tensor, member: Member, each: Tensor) -> None:
    """Add to every unit what belongs to its positions in one layer."""
    counts = torch.tensor([len(p) for p in member.positions])
    owner = torch.repeat_interleave(torch.arange(len(total)), counts)
    where = torch.tensor([p for positions in member.positions for p in positions], dtype=torch.long)
    total.index_add_(0, owner, each[where])


@importance("magnitude")
def magnitude(
    model: GenerativeModel, couplings: Sequence[Coupling], evidence: Evidence | None = None
) -> list[Tensor]:
    """Group L2 norm √(Σ w²) over all coupled slices, divided by its mean in the group (Fang et al. 2023,
    Section 3.3)."""
    scores = []
    for coupling in couplings:
        norm = gathered(model, coupling, lambda p: p.detach().square()).sqrt()
        scores.append(norm / norm.mean().clamp_min(1e-12))
    return scores


@importance("random")
def random(
    model: GenerativeModel, couplings: Sequence[Coupling], evidence: Evidence | None = None
) -> list[Tensor]:
    """No criterion at all: what any other must beat."""
    rng = torch.Generator().manual_seed(evidence.seed if evidence else 0)
    return [torch.rand(c.units, generator=rng, dtype=torch.float64) for c in couplings]


@importance("activation")
def activation(
    model: GenerativeModel, couplings: Sequence[Coupling], evidence: Evidence | None = None
) -> list[Tensor]:
    """√(Σ E[a²] ‖w‖²) over the layers that use a channel, divided by its mean in the group.

    a is what the channel carries while the model samples, w the weights it meets: Sun et al. 2024 ("A simple
    and effective pruning approach for large language models"), for whole channels. Unlike the plain norm it
    is not misled by layers before a normalization, whose scale means nothing.
    """
    power = _power(model, {m.module for c in couplings for m in c.members if m.side == "in"})
    scores = []
    for coupling in couplings:
        total = torch.zeros(coupling.units, dtype=torch.float64)
        for member in coupling.members:
            if member.side == "in" and member.module in power:
                energy = (
                    per_position(find(model, member.module), "in", lambda p: p.detach().square())
                    .double()
                    .cpu()
                )
                _add(total, member, energy * power[member.module])
        scores.append(total.sqrt() / total.sqrt().mean().clamp_min(1e-12))
    return scores


@importance("taylor")
def taylor(
    model: GenerativeModel, couplings: Sequence[Coupling], evidence: Evidence | None = None
) -> list[Tensor]:
    """√mean (Σ w·∂L/∂w)² over batches, divided by its mean in the group; Σ over all coupled slices.

    Molchanov et al. 2019, "Importance estimation for neural network pruning", eq. 8 for a group of weights:
    what the loss changes to first order when they all become zero.
    """
    sums, count = [torch.zeros(c.units, dtype=torch.float64) for c in couplings], 0
    for gradients in (evidence or Evidence()).gradients(model):
        of = {id(p): gradients[n] for n, p in model.named_parameters() if n in gradients}
        count += 1
        for total, coupling in zip(sums, couplings, strict=True):
            total += gathered(model, coupling, _times(of)).square()
    scores = [(total / max(count, 1)).sqrt() for total in sums]
    return [s / s.mean().clamp_min(1e-30) for s in scores]


@importance("geometric_median")
def geometric_median(
    model: GenerativeModel, couplings: Sequence[Coupling], evidence: Evidence | None = None
) -> list[Tensor]:
    """Σ_v ‖w_u − w_v‖ over the filters that make the channels, divided by its mean in the group.

    He et al. 2019, "Filter pruning via geometric median for deep convolutional neural networks acceleration",
    eq. 4: a filter in the middle of the others can be replaced by them.
    """
    scores = []
    for coupling in couplings:
        squares = torch.zeros(coupling.units, coupling.units, dtype=torch.float64)
        for member in coupling.members:
            rows = _filters(find(model, member.module), member)
            if rows is not None:
                squares += torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
        far = squares.sqrt().sum(1)
        scores.append(far / far.mean().clamp_min(1e-30))
    return scores


def _times(gradients: Mapping[int, Tensor]) -> Callable[[Tensor], Tensor]:
    """w → w·∂L/∂w, by the parameters' ids; 0 where there is no gradient."""

    def product(p: Tensor) -> Tensor:
        return p.detach() * gradients[id(p)] if id(p) in gradients else torch.zeros_like(p)

    return product


def _filters(module: nn.Module | Tensor, member: Member) -> Tensor | None:
    """The weights that make each unit `(units, values)` float64; None where the layer makes none (a norm)."""
    if isinstance(module, Tensor) or member.side != "out":
        return None
    layout = layout_of(module, "out") if not callable(getattr(module, "resize", None)) else None
    axis = dict(layout.tensors).get("weight") if layout else None
    weight = getattr(module, "weight", None)
    if axis is None or not isinstance(weight, Tensor) or weight.ndim < 2:
        return None
    rows = weight.detach().double().cpu().movedim(axis, 0).flatten(1)
    if len({len(p) for p in member.positions}) != 1:
        return None
    return torch.stack([rows[list(p)].flatten() for p in member.positions])


def _power(model: GenerativeModel, names: set[str]) -> dict[str, Tensor]:
    """E[a²] of every input channel of these layers, over a few samples as the sampler makes them."""
    sums: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            a = inputs[0].detach().double()
            a = a.movedim(-1, 0) if isinstance(module, nn.Linear) else a.movedim(1, 0)
            sums[name] = sums.get(name, torch.zeros(len(a))) + a.flatten(1).square().mean(1).cpu()

        return hook

    handles = [find(model, n).register_forward_pre_hook(watch(n)) for n in sorted(names)]  # type: ignore[union-attr]
    try:
        try:
            model.sample(32, seed=CALIBRATION)
        except CallError:  # a condition that must be given: the graphs' own examples have to do
            outputs(model, 32)
    finally:
        for handle in handles:
            handle.remove()
    return sums

"""Learning which channels or weights stay: gates on them, as many open as wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrize

from niwaki.compression.arithmetic import sampling_graphs
from niwaki.compression.distillation.config import FinetuneConfig
from niwaki.compression.distillation.distilled import Distilled
from niwaki.compression.pruning.dependencies.dependency_graph import Coupling
from niwaki.compression.pruning.learned.hard_concrete import HardConcrete, gate, open_probability
from niwaki.core.contract import Batch, Context, GenerativeModel, Phase
from niwaki.surgery.cuts import find, owner_of, scale, width

__all__ = ["ChannelGates", "Gated", "WeightGates", "home_phase"]

_RAMP = 0.6  # share of the training in which the goal falls to what is wanted; the rest is for the weights
_WAY = 40.0  # log α that a gate can move in the whole training, at the full learning rate
_NEWTON = 6  # steps towards the constraint, after every training step


class Gated(Distilled):
    """A student with gates, taught as ever, under the constraint that a share of the gates is open.

    min L(w, z) + λ·E[L0]/N subject to E[L0]/N = the goal, which falls from 1 to 1 − ratio. After every step
    the gates are brought back to the constraint by one shift of all log α, which leaves their order alone. So
    the multiplier that others have to learn is solved for (Gallego-Posada et al. 2022, "Controlled sparsity
    via constrained optimization"). λ only makes gates decide: it presses most on those half open.

    units:  gates by name (of a coupling, of a weight) → their shape
    steps:  of the training
    weight: λ
    """

    def __init__(
        self,
        student: GenerativeModel,
        teacher: GenerativeModel | Sequence[GenerativeModel],
        config: FinetuneConfig,
        units: Mapping[str, Sequence[int]],
        *,
        ratio: float,
        steps: int,
        weight: float = 1.0,
    ) -> None:
        super().__init__(student, teacher, config)
        self.names, self.ratio, self.weight = list(units), ratio, weight
        pace = _WAY / (config.lr * steps)
        self.gates = nn.ModuleList(HardConcrete(units[n], pace) for n in self.names)
        self._home = home_phase(self)

    def gate_of(self, name: str) -> HardConcrete:
        found: Any = self.gates[self.names.index(name)]
        return found

    def phases(self) -> tuple[Phase, ...]:
        return tuple(
            replace(p, parameters=(*p.parameters, "gates")) if p.name == self._home else p
            for p in super().phases()
        )

    def open_share(self) -> Tensor:
        """E[L0] / N: expected share of open gates, differentiable."""
        probabilities = [open_probability(g.log_alpha).flatten() for g in self._all()]
        return torch.cat(probabilities).mean()

    def goal(self, progress: float) -> float:
        """Share that may be open by now: from 1 down to 1 − ratio."""
        return 1.0 - self.ratio * min(1.0, progress / _RAMP)

    def loss(self, phase: str, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        for one in self._all():
            one.draw(ctx.rng if self.training else None)
        terms = super().loss(phase, batch, ctx)
        if phase == self._home:
            share = self.open_share()
            terms["gates"] = self.weight * share
            ctx.log(open=share)
        return terms

    def after_step(self, ctx: Context) -> None:
        super().after_step(ctx)
        self.shift_to(self.goal(ctx.progress))

    @torch.no_grad()
    def shift_to(self, share: float) -> None:
        """Add one number to all log α, so that E[L0]/N is `share` (Newton's method)."""
        gates = self._all()
        for _ in range(_NEWTON):
            p = torch.cat([open_probability(g.log_alpha).flatten() for g in gates])
            step = ((share - p.mean()) / (p * (1.0 - p)).mean().clamp_min(1e-3)).clamp(-2.0, 2.0)
            for g in gates:
                g.theta.add_(step / g.pace)

    @torch.no_grad()
    def scores(self) -> dict[str, Tensor]:
        """log α by name, on the CPU: the most open are the highest."""
        return {n: self.gate_of(n).log_alpha.detach().double().cpu() for n in self.names}

    @torch.no_grad()
    def closed_share(self) -> float:
        """Share of gates that are rather closed than open: P(z ≠ 0) < ½."""
        return float(
            torch.cat([open_probability(g.log_alpha).flatten() for g in self._all()]).lt(0.5).double().mean()
        )

    def _all(self) -> list[HardConcrete]:
        return list(self.gates)  # type: ignore[arg-type]


def home_phase(both: Distilled) -> str:
    """The first phase that trains some of what sampling uses and the teacher teaches."""
    if both._at:
        return next(iter(both._at.values()))
    used = {id(p) for g in sampling_graphs(both.student).values() for p in g.module.parameters()}
    named = dict(both.named_parameters())
    for phase in both._students():
        under = [
            p for n, p in named.items() if any(n == q or n.startswith(q + ".") for q in phase.parameters)
        ]
        if any(id(p) in used for p in under):
            return phase.name
    return both._students()[0].name


class ChannelGates:
    """Gates on what the layers are given: a closed one hides its channel from everything that uses it.

    Gating the input rather than the output cannot be undone by a normalization in between.
    """

    def __init__(self, both: Gated, couplings: Sequence[Coupling]) -> None:
        self.both = both
        self._at: dict[str, list[tuple[str, Tensor, Tensor]]] = {}
        for coupling in couplings:
            for member in coupling.members:
                if member.side == "in":
                    counts = torch.tensor([len(p) for p in member.positions])
                    unit = torch.repeat_interleave(torch.arange(coupling.units), counts)
                    place = torch.tensor([p for positions in member.positions for p in positions])
                    self._at.setdefault(member.module, []).append((coupling.key, place, unit))
        self._handles = [
            find(both.student, name).register_forward_pre_hook(self._hook(name))  # type: ignore[union-attr]
            for name in self._at
        ]

    @staticmethod
    def gateable(model: nn.Module, coupling: Coupling) -> bool:
        """Whether every layer that uses the channels is one whose input axis is known."""
        users = [find(model, m.module) for m in coupling.members if m.side == "in"]
        return bool(users) and all(isinstance(u, nn.Linear | _ConvNd) for u in users)

    def _factors(self, name: str, of: Mapping[str, Tensor], like: Tensor) -> Tensor:
        total = width(find(self.both.student, name), "in")
        factors = torch.ones(total, device=like.device, dtype=like.dtype)
        for key, place, unit in self._at[name]:
            z = of[key].to(like)
            factors = factors.index_put((place.to(like.device),), z[unit.to(like.device)])
        return factors

    def _hook(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x = inputs[0]
            z = {key: self.both.gate_of(key).z for key, _, _ in self._at[name]}
            factors = self._factors(name, z, x)
            shape = (-1,) if isinstance(module, nn.Linear) else (-1, *[1] * (x.ndim - 2))
            return (x * factors.reshape(shape), *inputs[1:])

        return hook

    @torch.no_grad()
    def settle(self) -> None:
        """Fold ẑ into the weights that meet the channels, for good; the hooks go."""
        for handle in self._handles:
            handle.remove()
        student = self.both.student
        for name, entries in self._at.items():
            z = {key: gate(self.both.gate_of(key).log_alpha) for key, _, _ in entries}
            target = find(student, name)
            scale(target, "in", self._factors(name, z, next(target.parameters())))  # type: ignore[union-attr]


class WeightGates:
    """A gate on every single weight: w̃ = w · z. Weights that were pruned before stay zero.

    names: of the parameters, before they are parametrized
    """

    def __init__(self, both: Gated, names: Sequence[str]) -> None:
        self.both = both
        self._where: list[tuple[nn.Module, str]] = []
        for name in names:
            module, leaf = owner_of(both.student, name)
            times = _Times(both.gate_of(name))
            parametrize.register_parametrization(module, leaf, times)
            self._where.append((module, leaf))

    @torch.no_grad()
    def settle(self) -> None:
        """Leave w · ẑ as plain weights."""
        for one in self.both._all():
            one.draw(None)
        for module, leaf in self._where:
            parametrize.remove_parametrizations(module, leaf, leave_parametrized=True)


class _Times(nn.Module):
    """w → w · z of a gate that is registered elsewhere."""

    def __init__(self, one: HardConcrete) -> None:
        super().__init__()
        self._gate = (one,)  # in a tuple, so that it is no submodule

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self._gate[0].z.to(weight)

"""Group lasso on the channels' groups: training that shrinks whole groups to zero, as many as wanted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from niwaki.compression.distillation.config import FinetuneConfig
from niwaki.compression.distillation.distilled import Distilled
from niwaki.compression.pruning.dependencies.dependency_graph import Coupling, Member
from niwaki.core.contract import Context, GenerativeModel
from niwaki.surgery.cuts import find, per_position, scale, width

__all__ = ["Shrinking", "shrunk"]

_RAMP = 0.6  # share of the training by which all that is to go has gone
_GROWTH = 1.1  # of the penalty, per step, while too few groups are zero
_FIRST = 1e-3  # shrinkage per step at first, of a group's norm over its coupling's mean


def shrunk(norms: Tensor, tau: float) -> Tensor:
    """max(0, 1 − τ/‖g‖): what the proximal step of τ·Σ‖g‖ multiplies each group by `(groups,)`.

    Yuan & Lin 2006, "Model selection and estimation in regression with grouped variables"; on channels:
    Wen et al. 2016, "Learning structured sparsity in deep neural networks", as a proximal step.
    """
    return (1.0 - tau / norms.clamp_min(1e-30)).clamp_min(0.0)


class Shrinking(Distilled):
    """A student whose channels are shrunk after every step, the weak ones to zero, until enough are.

    A group is all that is coupled to a channel; its norm counts over its coupling's mean. τ grows while fewer
    groups are zero than planned by now, and nothing is shrunk while there are enough: so the ratio is met
    exactly, and the weights that stay recover.

    least: channels that each coupling keeps
    """

    def __init__(
        self,
        student: GenerativeModel,
        teacher: GenerativeModel | Sequence[GenerativeModel],
        config: FinetuneConfig,
        couplings: Sequence[Coupling],
        *,
        ratio: float,
        weight: float = 1.0,
        least: Sequence[int] = (),
    ) -> None:
        super().__init__(student, teacher, config)
        self.couplings, self.ratio, self.tau = list(couplings), ratio, _FIRST * weight
        self.least = list(least) or [1] * len(self.couplings)
        self.closed = [torch.zeros(c.units, dtype=torch.bool) for c in self.couplings]
        self._means = [float(n.mean()) for n in map(self.norms, self.couplings)]

    @torch.no_grad()
    def norms(self, coupling: Coupling) -> Tensor:
        """‖g‖ of every unit `(units,)`, on the CPU: one transfer per layer."""
        total = torch.zeros(coupling.units, dtype=torch.float64)
        for member in coupling.members:
            each = per_position(
                find(self.student, member.module), member.side, lambda p: p.detach().square()
            ).double()
            place, unit = _places(member)
            total.index_add_(0, unit, each.cpu()[place])
        return total.sqrt()

    def after_step(self, ctx: Context) -> None:
        super().after_step(ctx)
        wanted = round(self.ratio * sum(c.units for c in self.couplings) * min(1.0, ctx.progress / _RAMP))
        missing = wanted - sum(int(c.sum()) for c in self.closed)
        norms = [self.norms(c) / m for c, m in zip(self.couplings, self._means, strict=True)]
        if missing <= 0:
            factors = [torch.ones(len(n)) for n in norms]
        else:
            factors = [shrunk(n, self.tau).float() for n in norms]
            self.tau *= _GROWTH
            self._close(norms, factors, missing)
        for coupling, closed, factor in zip(self.couplings, self.closed, factors, strict=True):
            factor[closed] = 0.0  # moments of the optimizer would bring it back
            if bool((factor != 1.0).any()):
                self._scale(coupling, factor)

    def _close(self, norms: list[Tensor], factors: list[Tensor], missing: int) -> None:
        """Note which groups became zero: no more than are missing, and not too many of one coupling."""
        order = sorted(
            (float(norms[i][u]), i, u)
            for i, factor in enumerate(factors)
            for u in torch.nonzero((factor == 0.0) & ~self.closed[i]).flatten().tolist()
        )
        for _, i, u in order:
            room = self.couplings[i].units - self.least[i] - int(self.closed[i].sum())
            if missing > 0 and room > 0:
                self.closed[i][u] = True
                missing -= 1
            else:
                factors[i][u] = 1.0  # spared

    @torch.no_grad()
    def _scale(self, coupling: Coupling, factor: Tensor) -> None:
        for member in coupling.members:
            target = find(self.student, member.module)
            first = target if isinstance(target, Tensor) else next(target.parameters())
            factors = torch.ones(width(target, member.side))
            place, unit = _places(member)
            factors[place] = factor[unit]
            scale(target, member.side, factors.to(first.device))

    def scores(self) -> dict[str, Tensor]:
        """Norm over the coupling's mean, by coupling; below all others where the group is zero."""
        return {
            c.key: (self.norms(c) / mean).masked_fill(closed, -1.0)
            for c, mean, closed in zip(self.couplings, self._means, self.closed, strict=True)
        }


def _places(member: Member) -> tuple[Tensor, Tensor]:
    """(positions of the layer, the unit that each belongs to)."""
    counts = torch.tensor([len(p) for p in member.positions])
    unit = torch.repeat_interleave(torch.arange(len(member.positions)), counts)
    return torch.tensor([p for ps in member.positions for p in ps], dtype=torch.long), unit

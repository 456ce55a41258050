"""How many channels each layer keeps, where layers do not all lose the same share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from niwaki.compression.pruning.channels import _Widths
from niwaki.compression.pruning.coupling import Coupling
from niwaki.compression.pruning.slots import ratio_of

__all__ = ["Shares", "adaptive", "makers"]


def adaptive(scores: Sequence[Tensor], count: int) -> list[int]:
    """Units that each layer keeps, `count` in all, so that all lose about the same share of Σ s².

    A unit is kept while the stronger ones of its layer hold less than a share E of the layer's Σ s², and E is
    the one that keeps `count` units. Layers with a few strong channels lose many, even ones few; the
    strongest of each stays. (Lee et al. 2021 have a threshold of this kind for single weights.)
    """
    levels = []
    for score in scores:
        squares = score.double().clamp_min(0.0).square().sort(descending=True, stable=True).values
        levels.append((squares.cumsum(0) - squares) / squares.sum().clamp_min(1e-300))
    order = torch.argsort(torch.cat(levels), stable=True)[: max(count, len(scores))]
    owner = torch.repeat_interleave(torch.arange(len(scores)), torch.tensor([len(s) for s in scores]))
    return torch.bincount(owner[order], minlength=len(scores)).tolist()


@dataclass(frozen=True)
class Shares(_Widths):
    """Widths by the config's ranking, by `ratios`, or as they were `learned`: coupling → channels left."""

    learned: dict[str, int] = field(default_factory=dict)

    def removed(
        self, found: list[Coupling], scores: list[Tensor], ratio: float
    ) -> list[tuple[Coupling, tuple[int, ...]]]:
        if not self.learned and not self.config.ratios and self.config.ranking != "adaptive":
            return super().removed(found, scores, ratio)
        given = self._given(found, scores, ratio)
        out = []
        for coupling, score in zip(found, scores, strict=True):
            keep = self._kept(coupling, score, self._rounded(coupling, given[coupling.key]))
            gone = tuple(u for u in range(coupling.units) if u not in keep)
            if gone:
                out.append((coupling, gone))
        return out

    def _given(self, found: list[Coupling], scores: list[Tensor], ratio: float) -> dict[str, float]:
        if self.learned:
            return {c.key: float(self.learned[c.key]) for c in found}
        if self.config.ratios:
            done = ratio / self.config.ratio
            return {c.key: self.before[c.key] * (1.0 - done * self._own(c)) for c in found}
        goal = round(sum(self.before[c.key] for c in found) * (1.0 - ratio))
        kept = adaptive(scores, goal)
        least = 0.5 * (1.0 - ratio)  # as for `global`: half of what an even share would leave
        return {c.key: max(float(k), least * self.before[c.key]) for c, k in zip(found, kept, strict=True)}

    def _own(self, coupling: Coupling) -> float:
        """The ratio of the layers that make the channels: the least, where several are named."""
        given = [ratio_of(layer, -1.0, self.config.ratios) for layer in makers(coupling)]
        return min((r for r in given if r >= 0), default=self.config.ratio)


def makers(coupling: Coupling) -> list[str]:
    """The layers of a coupling but those that only use its channels."""
    return list(dict.fromkeys(m.module for m in coupling.members if m.side != "in"))

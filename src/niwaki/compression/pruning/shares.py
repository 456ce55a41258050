"""How many channels each layer keeps, and which: by one ratio, by shares of their own, or as learned."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from niwaki.compression.pruning.config import PruneConfig
from niwaki.compression.pruning.dependencies.dependency_graph import Coupling
from niwaki.compression.pruning.slots import ratio_of

__all__ = ["Removed", "Shares", "adaptive", "makers"]

Removed = tuple[Coupling, tuple[int, ...]]
"""A coupling and which of its units go."""


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
class Shares:
    """Which widths a round aims at: by the config's ranking, by its `ratios`, or as they were learned.

    before:  coupling → width in the untouched model
    learned: coupling → channels left; empty where nothing was learned
    """

    config: PruneConfig
    before: dict[str, int]
    learned: dict[str, int] = field(default_factory=dict)

    def removed(self, found: list[Coupling], scores: list[Tensor], ratio: float) -> list[Removed]:
        """The units that go in this round, by coupling; couplings that keep all are left out.

        scores: of each coupling's units `(units,)`, the highest are kept
        ratio:  share of the untouched model's channels that has gone after this round
        """
        wanted = self._wanted(found, scores, ratio)
        out = []
        for coupling, score in zip(found, scores, strict=True):
            keep = self._kept(coupling, score, self._rounded(coupling, wanted[coupling.key]))
            gone = tuple(u for u in range(coupling.units) if u not in keep)
            if gone:
                out.append((coupling, gone))
        return out

    def _wanted(self, found: list[Coupling], scores: list[Tensor], ratio: float) -> dict[str, float]:
        """Widths before they are rounded."""
        if self.learned:
            return {c.key: float(self.learned[c.key]) for c in found}
        if self.config.ratios:
            done = ratio / self.config.ratio
            return {c.key: self.before[c.key] * (1.0 - done * self._own(c)) for c in found}
        if self.config.ranking == "global":
            return self._global(found, scores, ratio)
        if self.config.ranking == "adaptive":
            return self._adaptive(found, scores, ratio)
        return {c.key: self.before[c.key] * (1.0 - ratio) for c in found}

    def _own(self, coupling: Coupling) -> float:
        """The ratio of the layers that make the channels: the least, where several are named."""
        given = [ratio_of(layer, -1.0, self.config.ratios) for layer in makers(coupling)]
        return min((r for r in given if r >= 0), default=self.config.ratio)

    def _rounded(self, coupling: Coupling, wanted: float) -> int:
        """The nearest width that engines like: a multiple of `round_to` and of the blocks."""
        before = self.before[coupling.key]
        if coupling.size > 1:  # heads: each is a width that engines like already
            whole = math.ceil(wanted / coupling.blocks - 1e-9)  # of few rather one too many than too few
            return min(coupling.units, max(1, whole) * coupling.blocks)
        step = math.lcm(self.config.round_to, coupling.multiple)
        if step > before // 2:
            step = coupling.multiple  # too narrow a layer for multiples
            if self.config.round_to > 1 and before <= self.config.round_to:
                return coupling.units
        least = -(-min(self.config.min_width, before) // step) * step
        return min(coupling.units, max(step, least, round(wanted / step) * step))

    def _kept(self, coupling: Coupling, score: Tensor, count: int) -> set[int]:
        """The `count` best units, as many from each block; ties go to the lower index."""
        size, each = coupling.units // coupling.blocks, count // coupling.blocks
        keep: set[int] = set()
        for block in range(coupling.blocks):
            part = score[block * size : (block + 1) * size]
            order = torch.argsort(part, descending=True, stable=True)[:each]
            keep.update((order + block * size).tolist())
        return keep

    def _global(self, found: list[Coupling], scores: list[Tensor], ratio: float) -> dict[str, float]:
        """Widths left when the lowest channels of all go; each keeps half of what `layer` would leave."""
        goal = sum(self.before[c.key] for c in found) * (1.0 - ratio)
        ranked = torch.cat(scores).sort(descending=True).values
        threshold = float(ranked[min(max(int(goal), 1), len(ranked)) - 1])
        return {
            c.key: max(float((s >= threshold).sum()), 0.5 * (1.0 - ratio) * self.before[c.key])
            for c, s in zip(found, scores, strict=True)
        }

    def _adaptive(self, found: list[Coupling], scores: list[Tensor], ratio: float) -> dict[str, float]:
        """Widths by `adaptive`; each keeps half of what `layer` would leave, as above."""
        kept = adaptive(scores, round(sum(self.before[c.key] for c in found) * (1.0 - ratio)))
        least = 0.5 * (1.0 - ratio)
        return {c.key: max(float(k), least * self.before[c.key]) for c, k in zip(found, kept, strict=True)}


def makers(coupling: Coupling) -> list[str]:
    """The layers of a coupling but those that only use its channels."""
    return list(dict.fromkeys(m.module for m in coupling.members if m.side != "in"))

"""What latency and bytes of a plan depend on, known before anything is exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from niwaki.compression.arithmetic import LayerCost
from niwaki.compression.search.choices import FLOAT, Choices

__all__ = ["Profile", "profile_of"]


@dataclass(frozen=True)
class Profile:
    """Of one candidate.

    work:    by (layer, kind, precision), multiply-accumulates of one sample over all passes
    written: by (layer, kind, precision), values written, of one sample over all passes
    passes:  of the network for one sample
    calls:   of layers in one pass
    stored:  by bits, weights that are stored with them
    live:    bytes that are live at most while one sample is computed in float32 (`LiveMemory`)
    """

    work: Mapping[tuple[str, str, str], float]
    written: Mapping[tuple[str, str, str], float]
    passes: float
    calls: int
    stored: Mapping[int, float]
    live: float = 0.0

    @property
    def macs(self) -> float:
        return sum(self.work.values())


def profile_of(
    costs: Mapping[str, LayerCost], choices: Choices, *, passes: float, live: float = 0.0
) -> Profile:
    """costs: layer by layer after the cut, of one pass; passes: of the network for one sample; live: bytes"""
    work: dict[tuple[str, str, str], float] = {}
    written: dict[tuple[str, str, str], float] = {}
    stored: dict[int, float] = {}
    for name, cost in costs.items():
        bits = choices.bits.get(name, FLOAT)
        whole = choices.inputs and bits <= 8
        place = (name, cost.kind, "integer" if whole else "float")
        work[place] = cost.macs * passes
        written[place] = cost.outputs * passes
        stored[bits] = stored.get(bits, 0.0) + cost.weights
        stored[FLOAT] = stored.get(FLOAT, 0.0) + cost.rest
    return Profile(work, written, passes, sum(cost.calls for cost in costs.values()), stored, live)

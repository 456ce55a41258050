"""The watch over one stream: blocks of features in, what is certain of every channel out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from niwaki.core.errors import CallError
from niwaki.evaluation.drift.channel import Channel, Reference, Stream, channels_of
from niwaki.sequential.change import find_rise

__all__ = ["LEVEL", "MARGIN", "Reading", "Standing", "Watch"]

LEVEL = 0.01
"""Chance that a watch ever raises a false alarm, over all its channels and all its life."""
MARGIN = 0.1
"""Effect that counts as none: as if one sample in ten were of another kind."""
_OF_REFERENCE = 0.5
"""Share of the level for the choice of the reference; the rest is for the samples that come."""

Standing = Literal["alarm", "calm", "open"]


@dataclass(frozen=True)
class Reading:
    """What one channel says after a block.

    effect:    since the beginning that speaks loudest: 2·mean − 1, in −1 … 1
    low, high: at all times at once the effect is at least `low`, and over the whole time at most `high`
    since:     block of that beginning
    standing:  `alarm` where low > margin, `calm` where high < margin, else `open`
    room:      part of the bounds' distance that is the reference's alone: more samples do not narrow it
    n:         scores
    """

    channel: str
    title: str
    effect: float
    low: float
    high: float
    since: int
    standing: Standing
    room: float
    n: int

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


@dataclass
class Watch:
    """scores: by channel, one array per block."""

    stream: Stream
    reference: Reference
    margin: float = MARGIN
    level: float = LEVEL
    seed: int = 0
    blocks: list[np.ndarray] = field(default_factory=list)
    scores: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 < self.margin < 1.0 or not 0.0 < self.level < 0.5:
            raise CallError("a watch needs a margin in 0 … 1 and a level in 0 … 0.5")
        self.channels: list[Channel] = channels_of(self.stream, self.reference, self.seed)
        for channel in self.channels:
            self.scores.setdefault(channel.name, [])

    def add(self, block: np.ndarray) -> list[Reading]:
        """Features `(n, d)` of samples that have come; what is certain now."""
        for channel in self.channels:
            self.scores[channel.name].append(channel.scores(block))
        self.blocks.append(np.asarray(block, np.float32))
        for channel in self.channels:
            if channel.learns:
                channel.learn(self.blocks)
        return self.readings()

    def readings(self) -> list[Reading]:
        return [self._reading(channel) for channel in self.channels]

    def _reading(self, channel: Channel) -> Reading:
        level = self.level / len(self.channels)
        found = find_rise(self.scores[channel.name], (1.0 - _OF_REFERENCE) * level)
        room = channel.allowance(_OF_REFERENCE * level)
        n = sum(map(len, self.scores[channel.name]))
        low, high = 2.0 * (found.low - room) - 1.0, 2.0 * (found.whole_high + room) - 1.0
        standing: Standing = "alarm" if low > self.margin else "calm" if high < self.margin else "open"
        return Reading(
            channel.name, channel.title, 2.0 * found.mean - 1.0 if n else 0.0, max(low, -1.0), min(high, 1.0),
            found.since, standing, 2.0 * room, n,
        )  # fmt: skip

    def state(self) -> dict[str, np.ndarray]:
        """All that it needs to go on, as arrays by name."""
        sizes = {f"sizes.{n}": np.array([len(b) for b in s], np.int64) for n, s in self.scores.items()}
        joined = {f"scores.{n}": np.concatenate(s) if s else np.zeros(0) for n, s in self.scores.items()}
        learned = {f"learned.{c.name}.{k}": v for c in self.channels for k, v in c.state().items()}
        blocks = np.concatenate(self.blocks) if self.blocks else np.zeros((0, self.reference.held.shape[1]))
        of_blocks = {"sizes": np.array([len(b) for b in self.blocks], np.int64), "features": blocks}
        return {**sizes, **joined, **learned, **of_blocks}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on where `state` was taken."""
        self.blocks = _cut(state["features"], state["sizes"])
        for channel in self.channels:
            name = channel.name
            self.scores[name] = _cut(state[f"scores.{name}"], state[f"sizes.{name}"])
            prefix = f"learned.{name}."
            channel.restore({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})


def _cut(joined: np.ndarray, sizes: np.ndarray) -> list[np.ndarray]:
    ends = np.cumsum(sizes)
    return [joined[end - size : end] for end, size in zip(ends, sizes, strict=True)]

"""A channel: one way in which samples may come to differ, as a score in 0 … 1 for each of them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeVar

import numpy as np

from niwaki.core.registry import Registry

__all__ = ["Channel", "Reference", "Stream", "channels_of", "rank_allowance", "register_channel"]

Stream = Literal["inputs", "outputs"]
"""What comes in: real samples that the world sends, or what a model has made."""

Kind = TypeVar("Kind", bound="type[Channel]")


@dataclass(frozen=True)
class Reference:
    """What samples are held against, as features `(n, d)`.

    train: what the model has learned from
    held:  as samples were when nothing had changed, and that neither the model nor a channel learns from
    """

    train: np.ndarray
    held: np.ndarray


class Channel(ABC):
    """Scores are ½ on average where nothing has changed, and more where it has: 2·mean − 1, the *effect*, is
    the share of samples as if replaced by ones that are different for sure.

    name:    in records
    title:   in sentences: "new samples …"
    streams: what it can watch
    learns:  whether blocks that came before change how the next ones are scored
    """

    name: ClassVar[str]
    title: ClassVar[str]
    streams: ClassVar[tuple[Stream, ...]]
    learns: ClassVar[bool] = False

    def __init__(self, reference: Reference, seed: int = 0) -> None:
        self.reference, self.seed = reference, seed

    @abstractmethod
    def scores(self, block: np.ndarray) -> np.ndarray:
        """Of features `(n, d)`; `(n,)`, or `(1,)` where the block has one score as a whole; empty as long as
        the channel has nothing to tell by."""

    @abstractmethod
    def allowance(self, level: float) -> float:
        """How far above ½ the expected score may lie, with a probability of at most `level`, because of the
        choice of the reference alone."""

    def learn(self, blocks: list[np.ndarray]) -> None:  # noqa: B027  (most channels learn nothing)
        """From all blocks so far, after they were scored."""

    def state(self) -> dict[str, np.ndarray]:
        """What it has learned."""
        return {}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:  # noqa: B027
        """Go on with what `state` gave."""


_CHANNELS: Registry[Channel] = Registry("channel", ["niwaki.evaluation.drift"])


def register_channel(name: str) -> Callable[[Kind], Kind]:
    """Class decorator."""

    def enter(kind: Kind) -> Kind:
        kind.name = name
        _CHANNELS.register(name)(kind)
        return kind

    return enter


def channels_of(stream: Stream, reference: Reference, seed: int = 0) -> list[Channel]:
    """All that can watch a stream, by name."""
    kinds = [_CHANNELS[name] for name in _CHANNELS.names()]
    return [kind(reference, seed) for kind in kinds if stream in kind.streams]


def rank_allowance(n: int, level: float) -> float:
    """Of ranks among n held samples: the expected rank of another sample like them is a mean of n values that
    are uniform on 0 … 1 in their draw, and those are sub-Gaussian with their variance, 1/12."""
    return math.sqrt(math.log(1.0 / level) / (6.0 * n))

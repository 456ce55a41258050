"""What a mark is, and which kinds of samples carry one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.specs import ValueSpec
from niwaki_runtime.watermark.chances import at_least_one
from niwaki_runtime.watermark.key import Key

__all__ = ["Evidence", "Mark", "TokenMark", "carries_mark", "mark_of", "of_set", "register_mark"]

Kind = TypeVar("Kind", bound=type["Mark"])


@dataclass(frozen=True)
class Evidence:
    """How well something agrees with a key.

    p:         chance of as much where the key marked nothing, or a bound of it
    statistic: what p is the tail of: z of pictures and sounds, Σ −ln(1 − r) of tokens
    n:         how much was counted: pixels, steps, tokens
    """

    p: float
    statistic: float
    n: int


def of_set(each: Sequence[Evidence], together: Evidence) -> Evidence:
    """Of a set: what its sum says, or its best member, by Bonferroni, which holds however they depend on each
    other."""
    best = min(each, key=lambda one: one.p)
    of_sum, of_best = at_least_one(together.p, 2), at_least_one(best.p, 2 * len(each))
    if len(each) == 1:
        return best
    return replace(together, p=of_sum) if of_sum <= of_best else replace(best, p=of_best)


class TokenMark(Protocol):
    """Chooses tokens in the place of a sampler's own draw."""

    def choose(
        self, p: np.ndarray, u: np.ndarray, before: Sequence[Sequence[int]], nonces: np.ndarray
    ) -> np.ndarray:
        """Tokens `(n,)` int64.

        p:      probabilities `(n, V)`; u: what the sampler would draw by `(n, 1)`
        before: the tokens of each sample so far
        nonces: uniforms `(n,)`, one for each sample, the same at all its tokens
        """
        ...


class Mark(ABC):
    """The mark of one kind of samples."""

    strength: ClassVar[float] = 0.0
    """What `embed` takes where nobody says; 0 of marks that have no strength."""

    def embed(self, x: np.ndarray, spec: ValueSpec, key: Key, strength: float) -> np.ndarray:
        """Samples `(n, *shape)` in [low, high] with the key's mark, each whatever else is in the batch."""
        return x

    def drawing(self, key: Key) -> TokenMark | None:
        """What marks samples while they are drawn; None where they are marked afterwards."""
        return None

    @abstractmethod
    def evidence(
        self, samples: Sequence[np.ndarray], spec: ValueSpec, keys: Sequence[Key]
    ) -> list[tuple[list[Evidence], Evidence]]:
        """For each key, of each sample `(*shape)`, and of all together."""


_MARKS: dict[str, Mark] = {}


def register_mark(*modalities: str) -> Callable[[Kind], Kind]:
    """Class decorator: samples of these modalities carry this mark."""

    def enter(cls: Kind) -> Kind:
        _MARKS.update(dict.fromkeys(modalities, cls()))
        return cls

    return enter


def carries_mark(spec: ValueSpec) -> bool:
    """Whether such samples can be marked."""
    return spec.modality in _MARKS


def mark_of(spec: ValueSpec) -> Mark:
    """Raises CallError for samples that carry none."""
    if not carries_mark(spec):
        raise CallError(
            f"{spec.modality} samples carry no watermark: whoever reads their numbers reads its noise, too; "
            f"{', '.join(sorted(_MARKS))} samples do"
        )
    return _MARKS[spec.modality]

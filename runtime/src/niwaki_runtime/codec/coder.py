"""What a way of coding is, and which there are: each is found by the kind of sampler of a bundle's program
`codec`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import Program
from niwaki_runtime.specs import Levels, ValueSpec

__all__ = ["Block", "Coder", "Labels", "coder_of", "levels_of", "register_coder"]

Labels = tuple[np.ndarray, ...]
"""Of each condition an array `(n,)` of integers, which the decoder knows."""
Kind = TypeVar("Kind", bound="type[Coder]")


@dataclass(frozen=True)
class Block:
    """Some samples, coded.

    words: the message, uint32
    mark:  a number below 2³² of the coder's own
    ties:  close choices of rounding (`Rounding.to_bytes`)
    """

    words: np.ndarray
    mark: int
    ties: bytes

    @property
    def bytes(self) -> int:
        return int(self.words.nbytes) + len(self.ties)


class Coder(ABC):
    """Samples as blocks and back, by networks that are evaluated exactly. Subclasses are registered by the
    kind of sampler whose models they code.

    lossless, lossy: which of both it can

    graphs:  functions of float64 arrays to tuples of them, alike on every machine up to their last bits
    program: the bundle's `codec`; its sampler says what the graphs are
    """

    kind: ClassVar[str]
    lossless: bool = True
    lossy: bool = False

    @abstractmethod
    def __init__(self, graphs: Mapping[str, Any], program: Program) -> None: ...

    @abstractmethod
    def items(self, x: np.ndarray) -> np.ndarray:
        """Samples `(n, *shape)` as the integers that are coded `(n, k)`. Raises CallError where they are
        none."""

    @abstractmethod
    def samples(self, items: np.ndarray) -> np.ndarray:
        """Samples `(n, *shape)` of what `decode` gives."""

    @abstractmethod
    def bits(self, items: np.ndarray, labels: Labels) -> np.ndarray:
        """Bits of each by the model `(n,)`, at one draw of whatever is drawn."""

    @abstractmethod
    def settings(
        self, items: np.ndarray, labels: Labels, *, block: int, lossy: bool, quality: int
    ) -> dict[str, Any]:
        """What a decoder must be told of all blocks, as plain JSON; chosen from the first of the samples."""

    @abstractmethod
    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that a file says, of which others know nothing. Raises CodecError for such as no
        encoder writes."""

    @abstractmethod
    def encode(self, items: np.ndarray, labels: Labels, settings: Mapping[str, Any], *, lossy: bool) -> Block:
        """`(n, k)` integers as a block."""

    @abstractmethod
    def decode(
        self, block: Block, n: int, labels: Labels, settings: Mapping[str, Any], *, lossy: bool
    ) -> np.ndarray:
        """The `(n, k)` integers of a block; with loss they may lie between integers. Raises CodecError where
        it does not come out even."""


_CODERS: dict[str, type[Coder]] = {}


def register_coder(kind: str) -> Callable[[Kind], Kind]:
    """Class decorator: codes by programs whose sampler is of this kind."""

    def enter(cls: Kind) -> Kind:
        cls.kind = kind
        _CODERS[kind] = cls
        return cls

    return enter


def coder_of(kind: str) -> type[Coder]:
    """Raises CallError for a kind of sampler that nothing codes by."""
    if kind not in _CODERS:
        known = ", ".join(f"'{name}'" for name in sorted(_CODERS))
        raise CallError(f"a codec works by one of {known}, not by the sampler '{kind}'")
    return _CODERS[kind]


def levels_of(x: np.ndarray, spec: ValueSpec) -> np.ndarray:
    """Samples `(n, *shape)` as levels `(n, size)` int64. Raises CallError for values that are none."""
    assert isinstance(spec.values, Levels)
    at = (x.astype(np.float64) - spec.low) / (spec.high - spec.low) * (spec.levels - 1)
    found = np.round(at)
    if not np.isfinite(at).all() or np.abs(at - found).max(initial=0) > 1e-3:
        raise CallError(
            f"the codec writes the {spec.levels} levels of the model; some values lie between them"
        )
    if found.min(initial=0) < 0 or found.max(initial=0) >= spec.levels:
        raise CallError(f"the values must lie in {spec.low:g} … {spec.high:g}")
    return found.astype(np.int64).reshape(len(x), spec.size)

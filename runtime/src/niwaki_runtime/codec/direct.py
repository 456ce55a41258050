"""The coder of models that say each token's distribution: their tokens one by one, in as many bits as those
say. Of other samples the tokens that a network makes of them, which is with loss."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from niwaki_runtime.codec.coder import Block, Coder, Labels, register_coder
from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.codec.queue import Queue
from niwaki_runtime.codec.rounding import Rounding
from niwaki_runtime.codec.tables import FRACTION, frequencies
from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers import NumpyBackend
from niwaki_runtime.samplers.direct_coding import DirectCoding
from niwaki_runtime.samplers.prompts import ABSENT
from niwaki_runtime.samplers.reading import carry
from niwaki_runtime.samplers.tokens import log_probability

__all__ = ["DirectCoder"]

_GRID = 4
"""Bits behind the point of log₂ p: rounding to them costs about 10⁻⁴ bits a token."""
_NEAR = 2.0**-28
"""The grid is coarse, so that of the many logits few lie close to the middle of a step: 2⁻³² of log₂ p."""
_STATE = 1 << 23
"""Numbers of state in memory at once."""
_MOST_AT_ONCE = 64
_ROUNDED = 1e-3
"""How far beyond its range a value may lie that was rounded on its way."""
_MOST_TOKENS = 1 << 16
"""Tokens that there may be: each has at least 2⁻²⁴ of the probability."""


@register_coder(DirectCoding.kind)
class DirectCoder(Coder):
    """The only setting is how many samples the network is asked about `at_once`.

    Where samples are tokens, the last of a block may end early, filled up with −1. The words of a block are
    the number of its tokens and then the message; its mark is their CRC-32: a message of a range coder does
    not tell by itself that it was read wrongly.
    """

    def __init__(self, graphs: Mapping[str, Any], program: Program) -> None:
        plan, self._spec = program.sampler, program.inputs["x"].value
        assert isinstance(plan, DirectCoding)
        self._graphs, self._plan, self._network = graphs, plan, graphs[plan.graph]
        self.lossy = bool(plan.read)
        self.lossless = not self.lossy
        if self.lossless and (not self._spec.is_tokens or self._spec.size != plan.length):
            raise CallError(f"a codec by 'direct_coding' writes tokens, and {self._spec.modality} is none")

    def items(self, x: np.ndarray) -> np.ndarray:
        if self.lossy:
            inside = (x >= self._spec.low - _ROUNDED) & (x <= self._spec.high + _ROUNDED)
            if not inside.all():
                raise CallError(f"the values must lie in {self._spec.low:g} … {self._spec.high:g}")
            parts = [np.empty((0, self._plan.length), np.int64)]
            for first in range(0, len(x), _MOST_AT_ONCE):
                part = x[first : first + _MOST_AT_ONCE]
                parts.append(self._plan.tokens(self._graphs, part, NumpyBackend()))
            return np.concatenate(parts)
        if x.dtype.kind not in "iu":
            raise CallError(f"tokens are integers, and these are {x.dtype}")
        tokens = x.reshape(len(x), self._plan.length).astype(np.int64)
        absent = tokens.reshape(-1) == ABSENT
        count = int((~absent).sum())
        if absent[:count].any() or (len(tokens) and tokens.size - count >= self._plan.length):
            raise CallError("a sample may end early only where it is the last one")
        if tokens.min(initial=0) < ABSENT or tokens.max(initial=0) >= self._spec.levels:
            raise CallError(f"tokens must lie in 0 … {self._spec.levels - 1}")
        return tokens

    def samples(self, items: np.ndarray) -> np.ndarray:
        if not self.lossy:
            return items.reshape(-1, *self._spec.shape)
        parts = [np.empty((0, *self._spec.shape))]
        for first in range(0, len(items), _MOST_AT_ONCE):
            parts.append(self._graphs[self._plan.draw](items[first : first + _MOST_AT_ONCE])[0])
        return np.clip(np.concatenate(parts), self._spec.low, self._spec.high)

    def bits(self, items: np.ndarray, labels: Labels) -> np.ndarray:
        found = np.zeros(len(items))
        for first, end in self._batches(len(items), self._most()):
            part, reading = items[first:end], self._reading(end - first, tuple(y[first:end] for y in labels))
            for at in range(self._plan.length):
                here = np.maximum(part[:, at], 0)
                nats = log_probability(reading.logits(), here)
                found[first:end] -= np.where(part[:, at] != ABSENT, nats, 0.0) / math.log(2.0)
                reading.take(here)
        return found

    def settings(
        self, items: np.ndarray, labels: Labels, *, block: int, lossy: bool, quality: int
    ) -> dict[str, Any]:
        if quality:
            raise CallError("this model has one quality; leave that out")
        return {"at_once": min(self._most(), max(1, min(block, len(items))))}

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        try:
            at_once = int(settings["at_once"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CodecError("the header of the coded file lacks what its coder needs") from error
        if not 1 <= at_once <= self._most():
            raise CodecError("the header of the coded file contradicts itself")
        return {"at_once": at_once}

    def encode(self, items: np.ndarray, labels: Labels, settings: Mapping[str, Any], *, lossy: bool) -> Block:
        queue, rounding = Queue(), Rounding(near=_NEAR)
        for first, end in self._batches(len(items), settings["at_once"]):
            part, reading = items[first:end], self._reading(end - first, tuple(y[first:end] for y in labels))
            for at in range(self._plan.length):
                there = part[:, at] != ABSENT
                if not there.any():
                    break
                queue.push(part[there, at], self._frequencies(reading, rounding, first, at)[there])
                reading.take(np.maximum(part[:, at], 0))
        tokens = items[items != ABSENT]
        words = np.concatenate([np.array([len(tokens)], np.uint32), queue.to_words()])
        return Block(words, _checksum(tokens), rounding.to_bytes())

    def decode(
        self, block: Block, n: int, labels: Labels, settings: Mapping[str, Any], *, lossy: bool
    ) -> np.ndarray:
        length = self._plan.length
        count = int(block.words[0]) if len(block.words) else -1
        if not (n - 1) * length < count <= n * length:
            raise CodecError("the coded block holds another number of tokens than its samples")
        queue, rounding = Queue(block.words[1:]), Rounding(block.ties)
        found = np.full((n, length), ABSENT, np.int64)
        ends = np.minimum(count - length * np.arange(n), length)
        for first, end in self._batches(n, settings["at_once"]):
            reading = self._reading(end - first, tuple(y[first:end] for y in labels))
            for at in range(length):
                there = ends[first:end] > at
                if not there.any():
                    break
                found[first:end, at][there] = queue.pop(
                    self._frequencies(reading, rounding, first, at)[there]
                )
                reading.take(np.maximum(found[first:end, at], 0))
        if not queue.is_empty() or _checksum(found[found != ABSENT]) != block.mark:
            raise CodecError("the coded block does not come out even")
        return found

    def _frequencies(self, reading: _Reading, rounding: Rounding, first: int, at: int) -> np.ndarray:
        weights = reading.logits() * (math.log2(math.e) * (1 << _GRID))
        if weights.shape[-1] > _MOST_TOKENS:
            raise CallError(f"the codec writes {_MOST_TOKENS:,} different tokens, not {weights.shape[-1]:,}")
        # Below 2⁻⁴⁰ of the likeliest nothing counts, and minus infinity is no number.
        weights = np.maximum(weights, weights.max(-1, keepdims=True) - (40 << _GRID))
        return frequencies(rounding(weights, first=first, stage=at) << (FRACTION - _GRID))

    def _reading(self, n: int, labels: Labels) -> _Reading:
        return _Reading(self._network, self._plan.first, labels, n)

    def _most(self) -> int:
        """Samples whose states fit into memory together."""
        numbers = sum(math.prod(s.shape) for s in self._network.state)
        return int(np.clip(_STATE // max(numbers, 1), 1, _MOST_AT_ONCE))

    def _batches(self, n: int, at_once: int) -> Iterator[tuple[int, int]]:
        """First sample and last + 1 of those that the network reads together."""
        for first in range(0, n, at_once):
            yield first, min(n, first + at_once)


class _Reading:
    """A network that reads tokens, its state in float64."""

    def __init__(self, network: Any, first: int, labels: Labels, n: int) -> None:
        self._network, self._labels, self._at = network, labels, 0
        self._token = np.full(n, first, np.int64)
        self._state = [s.zeros(n).astype(np.float64) for s in network.state]

    def logits(self) -> np.ndarray:
        """`(n, V)` of the next token; asked once for each."""
        place = np.array([self._at], np.int64)
        logits, *news = self._network(self._token, place, *self._labels, *self._state)
        self._state = carry(self._state, news, self._network.state, self._at)
        return np.asarray(logits)

    def take(self, tokens: np.ndarray) -> None:
        """`(n,)`: which it was."""
        self._token, self._at = tokens, self._at + 1


def _checksum(tokens: np.ndarray) -> int:
    return zlib.crc32(tokens.astype("<u4").tobytes())

"""Samples and their latents on one stack: as many bits as the evidence lower bound says, or fewer with loss.

Bits-back coding with a stack (Townsend, Bird & Barber 2019, arXiv:1901.04866; with several groups of latents
Kingma, Abbeel & Ho 2019, "Bit-Swap", arXiv:1905.06845): latents are *popped* under q(u | x), which takes out
bits that were pushed before; x is pushed under p(x | u), the latents under p(u). The decoder goes backwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from niwaki_runtime import noise
from niwaki_runtime.codec.coder import Block
from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.codec.normal_bins import GRID, LOG_GRID, nearest_bins, posterior_frequencies, values
from niwaki_runtime.codec.rounding import Rounding
from niwaki_runtime.codec.stack import Stack
from niwaki_runtime.codec.tables import FRACTION, frequencies
from niwaki_runtime.samplers.bits_back import BitsBack
from niwaki_runtime.specs import Levels

__all__ = ["LatentStack"]

_TURNS = 0x7475_726E_73  # the word "turns"
_RESERVE = 24
"""Bits of ground per latent: no symbol takes more."""
_TABLE = 1 << 20
"""Frequencies of latents in memory at once."""
_BROAD = 0.1
"""The share of the samples whose posteriors may be narrower than a latent's bins are made for."""


class LatentStack:
    """Codes levels `(n, size)` by the networks that `plan` names, evaluated exactly.

    graphs: functions of float64 arrays to tuples of them, alike on every machine up to their last bits
    shape:  of one sample
    levels: what its values are
    bits:   of each latent, `(latents,)`: 2^bits bins of equal prior probability; one of 0 is not written,
            and is at the prior's mean
    at_once: samples whose latents are popped together. Networks are quicker on many; the bits of the first
            ones' latents are never given back
    """

    def __init__(
        self,
        graphs: Mapping[str, Any],
        plan: BitsBack,
        shape: tuple[int, ...],
        levels: Levels,
        bits: np.ndarray,
        at_once: int = 1,
    ) -> None:
        self._posterior, self._likelihood = graphs[plan.posterior], graphs[plan.likelihood]
        self._plan, self._shape, self._levels = plan, shape, levels
        # Of each group the latents that have as many bits, so that one table serves them all.
        self._parts = [
            [
                (int(b), start + np.flatnonzero(bits[start:stop] == b))
                for b in np.unique(bits[start:stop])
                if b
            ]
            for start, stop in plan.bounds()
        ]
        self._at_once = at_once
        # Every latent of the first samples is popped from the ground, which must not run out.
        self._reserve = -(-plan.latents * at_once * _RESERVE // 32) + 2

    def encode(self, levels: np.ndarray, labels: tuple[np.ndarray, ...] = ()) -> Block:
        """`(n, size)` integers as a block, without loss.

        labels: an array `(n,)` per condition, which the decoder knows
        """
        stack, rounding = Stack(self._reserve), Rounding()
        for first, end in self._batches(len(levels)):
            part, asked = levels[first:end], tuple(y[first:end] for y in labels)
            x, u = self._seen(part), np.zeros((len(part), self._plan.latents))
            bins = np.zeros(u.shape, np.int64)
            for group, parts in self._groups():
                mean, log_deviation = self._parameters(group, u, x, asked, first, rounding)
                for b, at in parts:
                    bins[:, at] = _pop(stack, mean[:, at], log_deviation[:, at], b)
                    u[:, at] = values(bins[:, at], b)
            stack.push(part.reshape(-1), self._likelihood_of(u, asked, first, rounding))
            turned = bins + self._turns(first, end)
            for b, at in self._all_parts():
                stack.push_uniform(turned[:, at].reshape(-1) & ((1 << b) - 1), b)
        words, untouched = stack.to_words()
        return Block(words, untouched, rounding.to_bytes())

    def decode(self, block: Block, n: int, labels: tuple[np.ndarray, ...] = ()) -> np.ndarray:
        """The `(n, size)` integers of a block. Raises CodecError where it does not come out even."""
        stack = Stack.from_words(block.words, self._reserve, block.mark)
        rounding, size = Rounding(block.ties), math.prod(self._shape)
        found = np.zeros((n, size), np.int64)
        for first, end in reversed(list(self._batches(n))):
            asked, m = tuple(y[first:end] for y in labels), end - first
            u = np.zeros((m, self._plan.latents))
            bins = np.zeros(u.shape, np.int64)
            turns = self._turns(first, end)
            for b, at in reversed(self._all_parts()):
                turned = stack.pop_uniform(m * len(at), b).reshape(m, -1)
                bins[:, at] = (turned - turns[:, at]) & ((1 << b) - 1)
                u[:, at] = values(bins[:, at], b)
            part = stack.pop(self._likelihood_of(u, asked, first, rounding)).reshape(m, size)
            if not stack.bits:  # no encoder uses up the ground
                raise CodecError("the coded block ends before its samples do")
            found[first:end], x = part, self._seen(part)
            for group, parts in reversed(self._groups()):
                u[:, self._plan.bounds()[group][0] :] = 0.0  # as it was when the encoder asked
                mean, log_deviation = self._parameters(group, u, x, asked, first, rounding)
                for b, at in reversed(parts):
                    _push(stack, bins[:, at], mean[:, at], log_deviation[:, at], b)
        if not stack.is_ground():
            raise CodecError("the coded block does not come out even")
        return found

    def approximate(self, levels: np.ndarray, labels: tuple[np.ndarray, ...] = ()) -> Block:
        """With loss: the bins of the posterior's means, at `bits` each."""
        stack, rounding = Stack(0), Rounding()
        for first, end in self._batches(len(levels)):
            asked = tuple(y[first:end] for y in labels)
            u, x = np.zeros((end - first, self._plan.latents)), self._seen(levels[first:end])
            for group, parts in self._groups():
                mean, _ = self._parameters(group, u, x, asked, first, rounding)
                for b, at in parts:
                    bins = nearest_bins(mean[:, at], b)
                    u[:, at] = values(bins, b)
                    stack.push_uniform(bins.reshape(-1), b)
        words, _ = stack.to_words()
        return Block(words, 0, rounding.to_bytes())

    def reconstruct(self, block: Block, n: int, labels: tuple[np.ndarray, ...] = ()) -> np.ndarray:
        """`(n, size)` mean levels, float64, of what `approximate` wrote."""
        if 32 * len(block.words) < n * sum(b * len(at) for b, at in self._all_parts()):
            raise CodecError("the coded block ends before its samples do")
        stack = Stack.from_words(block.words, 0, block.mark)
        found = np.zeros((n, math.prod(self._shape)))
        for first, end in reversed(list(self._batches(n))):
            asked, m = tuple(y[first:end] for y in labels), end - first
            u = np.zeros((m, self._plan.latents))
            for b, at in reversed(self._all_parts()):
                u[:, at] = values(stack.pop_uniform(m * len(at), b), b).reshape(m, -1)
            weights = self._likelihood(u, *asked)[0]
            p = np.exp(weights - weights.max(-1, keepdims=True))
            p /= p.sum(-1, keepdims=True)
            found[first:end] = p @ np.arange(self._levels.n)
        if not stack.is_ground():
            raise CodecError("the coded block does not come out even")
        return found

    def needs(self, levels: np.ndarray, labels: tuple[np.ndarray, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
        """Of each latent `(latents,)`: −log₂ σ of its posterior, which a tenth of these samples exceed, and
        what it says on average, KL(q ‖ p) in bits; u at the posterior's means."""
        u, x = np.zeros((len(levels), self._plan.latents)), self._seen(levels)
        narrow, said = np.zeros(self._plan.latents), np.zeros(self._plan.latents)
        for start, stop in self._plan.bounds():
            mean, log_deviation = (p[:, start:stop] for p in self._posterior(u, x, *labels))
            u[:, start:stop] = mean
            narrow[start:stop] = np.quantile(-log_deviation / math.log(2.0), 1.0 - _BROAD, axis=0)
            nats = 0.5 * (mean**2 + np.exp(2.0 * log_deviation) - 1.0) - log_deviation
            said[start:stop] = nats.mean(0) / math.log(2.0)
        return narrow, said

    def _turns(self, first: int, end: int) -> np.ndarray:
        """Agreed random integers `(n, latents)` that are added to bins before they are pushed.

        The next samples' latents are drawn from the bits on top of the stack, and these are the bins: without
        new randomness the latents of a sample would follow from those of the one before.
        """
        drawn = noise.uniform(_TURNS, first, end - first, self._plan.latents)
        return np.asarray(drawn * (1 << 16)).astype(np.int64)

    def _groups(self) -> list[tuple[int, list[tuple[int, np.ndarray]]]]:
        """The groups of which any latent is written."""
        return [(group, parts) for group, parts in enumerate(self._parts) if parts]

    def _all_parts(self) -> list[tuple[int, np.ndarray]]:
        return [part for parts in self._parts for part in parts]

    def _seen(self, levels: np.ndarray) -> np.ndarray:
        """`(n, *shape)`, float64."""
        seen: np.ndarray = self._levels.seen(levels.astype(np.float64))
        return seen.reshape(-1, *self._shape)

    def _parameters(
        self,
        group: int,
        u: np.ndarray,
        x: np.ndarray,
        asked: tuple[np.ndarray, ...],
        first: int,
        to: Rounding,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and log₂ σ of q as integers `(n, latents)`; zeros outside of the group."""
        start, stop = self._plan.bounds()[group]
        scales = (1 << GRID, math.log2(math.e) * (1 << LOG_GRID))
        found = []
        for i, (p, scale) in enumerate(zip(self._posterior(u, x, *asked), scales, strict=True)):
            whole = np.zeros(u.shape, np.int64)
            whole[:, start:stop] = to(p[:, start:stop] * scale, first=first, stage=2 * group + i)
            found.append(whole)
        return found[0], found[1]

    def _likelihood_of(
        self, u: np.ndarray, asked: tuple[np.ndarray, ...], first: int, to: Rounding
    ) -> np.ndarray:
        weights = self._likelihood(u, *asked)[0] * (math.log2(math.e) * (1 << FRACTION))
        # Below 2⁻⁴⁰ of the likeliest nothing counts, and minus infinity is no number.
        weights = np.maximum(weights, weights.max(-1, keepdims=True) - (40 << FRACTION))
        rounded = to(weights, first=first, stage=2 * len(self._parts))
        return frequencies(rounded.reshape(-1, rounded.shape[-1]))

    def _batches(self, n: int) -> Iterator[tuple[int, int]]:
        """First sample and last + 1 of those whose latents are popped together."""
        for first in range(0, n, self._at_once):
            yield first, min(n, first + self._at_once)


def _pop(stack: Stack, mean: np.ndarray, log_deviation: np.ndarray, bits: int) -> np.ndarray:
    """Bins `(n, latents)` under the posteriors of that shape."""
    flat = [
        stack.pop(posterior_frequencies(mean.reshape(-1)[part], log_deviation.reshape(-1)[part], bits))
        for part in _parts(mean.size, bits)
    ]
    return np.concatenate(flat).reshape(mean.shape)


def _push(stack: Stack, bins: np.ndarray, mean: np.ndarray, log_deviation: np.ndarray, bits: int) -> None:
    """Undoes `_pop`, from the last part to the first."""
    for part in reversed(_parts(mean.size, bits)):
        q = posterior_frequencies(mean.reshape(-1)[part], log_deviation.reshape(-1)[part], bits)
        stack.push(bins.reshape(-1)[part], q)


def _parts(n: int, bits: int) -> list[slice]:
    """Of n latents as many at a time as have tables that fit."""
    step = max(1, _TABLE >> bits)
    return [slice(at, at + step) for at in range(0, n, step)]

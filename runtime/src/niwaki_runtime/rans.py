"""An entropy coder: symbols of a byte each, in as many bits as they are surprising (rANS).

Asymmetric numeral systems (Duda 2013, "Asymmetric numeral systems: entropy coding combining speed of Huffman
coding with compression rate of arithmetic coding", arXiv:1311.2540), the range variant with static
frequencies: a natural number x holds the message, and a symbol of probability f/2¹⁴ makes it 2¹⁴/f times
larger. Many such numbers ("lanes") advance side by side, so that one numpy operation serves a whole row of
symbols; what overflows from any lane goes to one common list of 16-bit words (Giesen 2014, "Interleaved
entropy coders", arXiv:1402.3392). Streams with different tables share the rows, too: a hundred small tensors
cost no more numpy calls than one.

Exact in both directions, and only in integers: the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from niwaki_runtime.errors import BundleError

__all__ = ["MAX_ROWS", "PRECISION", "Coded", "decode", "encode", "lanes", "quantized"]

PRECISION = 14
"""Bits of a frequency: those of one table sum to 2¹⁴."""

MAX_ROWS = 1 << 14
"""The longest lane, in symbols."""

_TOTAL = 1 << PRECISION
_LOW = 1 << 16  # every state stays in [2¹⁶, 2³²): one 16-bit word at most leaves or enters per symbol


@dataclass(frozen=True)
class Coded:
    """Some streams of symbols as numbers.

    states: where each lane's number stands after its last symbol was put in, uint32 (lanes,)
    words:  what overflowed, in the order in which it is needed again, uint16
    """

    states: np.ndarray
    words: np.ndarray


def quantized(counts: np.ndarray, bits: int = PRECISION) -> np.ndarray:
    """Frequencies of the symbols counted, int64 (256,): their sum is 2^bits, none that occurs gets 0.

    counts: how often each byte occurs, (256,); at least one does, and no more kinds than 2^bits

    Rounded down, and then corrected one unit at a time where −Σ n log₂ f gains most or loses least: about
    n/(f ± ½) per unit, a division that every machine rounds alike.
    """
    counts = np.asarray(counts, np.int64)
    total = 1 << bits
    there = counts > 0
    f = np.where(there, np.maximum(counts * total // counts.sum(), 1), 0)
    for _ in range(total - int(f.sum())):
        f[np.argmax(np.where(there, counts / (f + 0.5), -1.0))] += 1
    for _ in range(int(f.sum()) - total):
        f[np.argmin(np.where(f > 1, counts / (f - 0.5), np.inf))] -= 1
    return f


def lanes(length: int, rows: int) -> int:
    """Lanes that a stream of `length` symbols takes at `rows` symbols per lane."""
    return -(-length // rows)


class _Layout:
    """Which lane and row each symbol has. Symbol i of a stream of l lanes is in its lane i mod l, row i ÷ l.

    The lanes of all streams stand in the order of their lengths, so that those which are not at their end
    are always the first few.
    """

    def __init__(self, lengths: Sequence[int], rows: int) -> None:
        each = [lanes(n, rows) for n in lengths]
        long = [n // w + (np.arange(w) < n % w) for n, w in zip(lengths, each, strict=True)]
        length = np.concatenate([np.empty(0, np.int64), *long])
        order = np.argsort(-length, kind="stable")
        self.stream = np.repeat(np.arange(len(each)), each)[order]
        self.rows = int(length.max(initial=0))
        self.active = np.searchsorted(-length[order], -np.arange(self.rows), side="left")
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        ends = np.cumsum(each, dtype=np.int64)
        self.columns = [place[e - w : e] for e, w in zip(ends, each, strict=True)]

    def spread(self, streams: Sequence[np.ndarray]) -> np.ndarray:
        table = np.zeros((self.rows, len(self.stream)), np.uint8)
        for symbols, columns in zip(streams, self.columns, strict=True):
            high = lanes(len(symbols), len(columns)) if len(columns) else 0
            padded = np.zeros(high * len(columns), np.uint8)
            padded[: len(symbols)] = symbols
            table[:high, columns] = padded.reshape(high, len(columns))
        return table

    def gathered(self, table: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
        out = []
        for n, columns in zip(lengths, self.columns, strict=True):
            high = lanes(n, len(columns)) if len(columns) else 0
            out.append(table[:high, columns].reshape(-1)[:n])
        return out


def encode(streams: Sequence[np.ndarray], frequencies: Sequence[np.ndarray], rows: int) -> Coded:
    """The streams (uint8 each) as numbers; every symbol has a frequency above 0 in its stream's table.

    rows: symbols per lane, at most
    """
    layout = _Layout([len(s) for s in streams], rows)
    table = layout.spread(streams)
    f_all = np.concatenate([np.empty(0, np.int64), *frequencies])
    c_all = np.concatenate([np.empty(0, np.int64), *(np.cumsum(f) - f for f in frequencies)])
    base = layout.stream * 256
    x = np.full(len(base), _LOW, np.int64)
    words = []
    for row in range(layout.rows - 1, -1, -1):  # last in, first out
        n = layout.active[row]
        at = base[:n] + table[row, :n]
        f, now = f_all[at], x[:n]
        # Too large to take f in and stay below 2³²: the low 16 bits leave first.
        over = np.flatnonzero(now >= f << (32 - PRECISION))
        words.append((now[over] & (_LOW - 1)).astype("<u2"))
        now[over] >>= 16
        # C(s, x) = ⌊x / f⌋ 2¹⁴ + c + x mod f   (Duda 2013, section 2.3)
        whole, rest = np.divmod(now, f)
        x[:n] = (whole << PRECISION) + c_all[at] + rest
    return Coded(x.astype("<u4"), np.concatenate([np.empty(0, "<u2"), *reversed(words)]))


def decode(
    coded: Coded, lengths: Sequence[int], frequencies: Sequence[np.ndarray], rows: int
) -> list[np.ndarray]:
    """The streams, uint8 each, of these lengths. Raises BundleError where `coded` is not what `encode` made.

    The work is bounded by the lengths and `rows`, whatever the numbers are.
    """
    layout = _Layout(lengths, rows)
    if len(coded.states) != len(layout.stream):
        raise BundleError("packed weights have another number of lanes than their lengths ask for")
    symbol_of = np.concatenate([np.empty(0, np.uint8), *(np.repeat(_BYTES, f) for f in frequencies)])
    f_all = np.concatenate([np.empty(0, np.int64), *frequencies])
    c_all = np.concatenate([np.empty(0, np.int64), *(np.cumsum(f) - f for f in frequencies)])
    slots, base = layout.stream * _TOTAL, layout.stream * 256
    x, words = coded.states.astype(np.int64), coded.words.astype(np.int64)
    table = np.empty((layout.rows, len(base)), np.uint8)
    read = 0
    for row in range(layout.rows):
        n = layout.active[row]
        now = x[:n]
        slot = now & (_TOTAL - 1)
        found = symbol_of.take(slots[:n] + slot, out=table[row, :n], mode="clip")
        at = base[:n] + found
        # D(x) = (s, f ⌊x / 2¹⁴⌋ + x mod 2¹⁴ − c), s being the symbol whose share holds x mod 2¹⁴
        now >>= PRECISION
        now *= f_all.take(at, mode="clip")
        now += slot
        now -= c_all.take(at, mode="clip")
        under = np.flatnonzero(now < _LOW)
        if len(under):
            more = words[read : read + len(under)]
            if len(more) < len(under):
                raise BundleError("packed weights end too early; copy or export the bundle again")
            now[under] = now[under] << 16 | more
            read += len(under)
    if read != len(words) or (x != _LOW).any():
        raise BundleError("packed weights do not come out even; copy or export the bundle again")
    return layout.gathered(table, lengths)


_BYTES = np.arange(256, dtype=np.uint8)

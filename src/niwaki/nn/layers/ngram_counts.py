"""Which tokens followed which contexts of a text, counted and kept in a table of a fixed size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["EMPTY", "HOMES", "NEAR", "WAYS", "Hashing", "Table", "count"]

WAYS = 4  # contexts that a bucket holds
EMPTY = -1
HOMES = 2**15
NEAR = 1  # windows on each side of one that count as the same place: passages reach over
_MARKS = 2**15  # fit int16
_LARGEST = 255  # what a count is kept as at most


@dataclass(frozen=True)
class Hashing:
    """Where contexts stand, by tabulation (Zobrist 1970): h = Σⱼ R[j, tⱼ] + s mod p, once for the bucket and
    once for the mark that tells contexts of one bucket apart. tⱼ is the j-th token back, s the salt of the
    order.

    words: R `(2, longest order, tokens + 1)`; salts: s `(2, orders)`; moduli: p `(2,)`, all int64. Sums stay
           below 2³¹: engines may count in 32 bits
    """

    orders: tuple[int, ...]
    words: np.ndarray
    salts: np.ndarray
    moduli: np.ndarray

    @classmethod
    def of(cls, orders: tuple[int, ...], buckets: int, tokens: int) -> Hashing:
        """tokens: names are 0 … tokens, of which the last is none"""
        moduli = np.array([buckets, _MARKS])
        rng = np.random.Generator(np.random.Philox(key=[buckets, tokens]))
        words = rng.integers(0, moduli[:, None, None], (2, max(orders), tokens + 1))
        return cls(orders, words, rng.integers(0, moduli[:, None], (2, len(orders))), moduli)

    def places(self, context: np.ndarray) -> np.ndarray:
        """Contexts `(n, longest order)`, the nearest token first → buckets and marks `(2, n, orders)`."""
        terms = self.words[:, np.arange(context.shape[1]), context]
        sums = terms.cumsum(-1)[..., np.array(self.orders) - 1]
        found: np.ndarray = (sums + self.salts[:, None]) % self.moduli[:, None, None]
        return found


@dataclass(frozen=True)
class Table:
    """What followed each context that is kept, by slot; the last slot is that of contexts never seen.

    marks:      `(slots + 1,)` int16, EMPTY where nothing stands
    successors: the most frequent ones `(slots + 1, m)` int16 or int32, EMPTY where there were fewer
    counts:     of each successor, of all tokens that followed, and of how many different ones
                `(slots + 1, m + 2)` uint8; frequent contexts are scaled down to 255
    homes:      where a successor was seen in windows beside each other only, the first of them, modulo
                `HOMES` `(slots + 1, m)` int16; else EMPTY
    kept:       share of the occurrences whose context has a slot
    """

    marks: np.ndarray
    successors: np.ndarray
    counts: np.ndarray
    homes: np.ndarray
    kept: float


def count(windows: np.ndarray, hashing: Hashing, tokens: int, successors: int) -> Table:
    """Count what followed the contexts in windows `(n, T)`; contexts do not reach beyond their window.

    Of more contexts than a bucket holds, the rarest lose their place.
    """
    buckets, longest = int(hashing.moduli[0]), max(hashing.orders)
    fed = np.pad(windows[:, :-1], ((0, 0), (longest, 0)), constant_values=tokens)
    context = np.lib.stride_tricks.sliding_window_view(fed, longest, axis=1)[..., ::-1]
    flat, target = context.reshape(-1, longest), windows.reshape(-1).astype(np.int64)
    window = np.repeat(np.arange(len(windows)), windows.shape[1])
    places = hashing.places(flat)
    whole = np.cumsum(flat == tokens, axis=1)[:, np.array(hashing.orders) - 1] == 0
    found = []
    for k in range(len(hashing.orders)):
        w = whole[:, k]
        key = places[0, w, k] * _MARKS + places[1, w, k]
        found.append(_tally(key, target[w], window[w], tokens, successors))
    key, following, counts, homes = (np.concatenate(part) for part in zip(*found, strict=True))
    bucket, total = key // _MARKS, counts[:, successors]
    order = np.lexsort((-total, bucket))
    bucket = bucket[order]
    way = np.arange(len(bucket)) - np.searchsorted(bucket, bucket)  # its rank in its bucket
    slot, order = bucket[way < WAYS] * WAYS + way[way < WAYS], order[way < WAYS]
    size, narrow = buckets * WAYS + 1, np.int16 if tokens < 2**15 else np.int32
    table = Table(
        np.full(size, EMPTY, np.int16),
        np.full((size, successors), EMPTY, narrow),
        np.zeros((size, successors + 2), np.uint8),
        np.full((size, successors), EMPTY, np.int16),
        float(total[order].sum() / max(1, total.sum())),
    )
    table.marks[slot], table.successors[slot] = key[order] % _MARKS, following[order]
    table.counts[slot], table.homes[slot] = _bounded(counts[order]), homes[order]
    return table


def _tally(
    key: np.ndarray, target: np.ndarray, window: np.ndarray, tokens: int, m: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For each key that occurs: the key; its m most frequent successors; their counts, the total and the
    number of successors; the successors' homes. window: of each occurrence, ascending"""
    pair, place = key * (tokens + 1) + target, np.arange(len(key))
    order = np.argsort(pair, kind="stable")  # within a pair windows ascend
    pair, place = pair[order], window[place[order]]
    start = np.flatnonzero(np.append(True, pair[1:] != pair[:-1])) if len(pair) else place
    often = np.diff(np.append(start, len(pair)))
    first, last = place[start], place[start + often - 1]
    home = np.where(last - first <= 2 * NEAR, first % HOMES, EMPTY)
    owner, token = pair[start] // (tokens + 1), pair[start] % (tokens + 1)
    keys, begin, kinds = np.unique(owner, return_index=True, return_counts=True)
    index = np.repeat(np.arange(len(keys)), kinds)
    order = np.lexsort((-often, owner))
    rank = np.arange(len(owner)) - begin[index]
    at, order = (index[rank < m], rank[rank < m]), order[rank < m]
    names, homes = np.full((len(keys), m), EMPTY), np.full((len(keys), m), EMPTY)
    counts = np.zeros((len(keys), m + 2), np.int64)
    names[at], homes[at], counts[at] = token[order], home[order], often[order]
    if len(keys):
        counts[:, m], counts[:, m + 1] = np.add.reduceat(often, begin), kinds
    return keys, names, counts, homes


def _bounded(counts: np.ndarray) -> np.ndarray:
    """Counts in a byte: rows above it are scaled to it, and what was seen stays seen."""
    scale = np.minimum(1.0, _LARGEST / counts.max(axis=1, keepdims=True, initial=1))
    return np.ceil(counts * scale).astype(np.uint8)

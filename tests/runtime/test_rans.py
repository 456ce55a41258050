"""The entropy coder: exact in both directions, as short as the entropy allows, and never led astray."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from niwaki_runtime import rans
from niwaki_runtime.errors import BundleError

TOTAL = 1 << rans.PRECISION


def entropy(symbols: np.ndarray) -> float:
    """Bits of all symbols at their empirical frequencies."""
    counts = np.unique(symbols, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def table(symbols: np.ndarray) -> np.ndarray:
    return rans.quantized(np.bincount(symbols, minlength=256))


def bits(coded: rans.Coded) -> int:
    return 8 * (coded.states.nbytes + coded.words.nbytes)


def one_by_one(coded: rans.Coded, length: int, f: np.ndarray) -> list[int]:
    """The decoder of the paper, one number and one symbol at a time, for a single lane."""
    (x,), words, out = coded.states.tolist(), coded.words.tolist(), []
    c = np.cumsum(f) - f
    for _ in range(length):
        slot = x % TOTAL
        s = next(s for s in range(256) if c[s] <= slot < c[s] + f[s])
        x = int(f[s]) * (x // TOTAL) + slot - int(c[s])
        if x < 1 << 16:
            x = x << 16 | words.pop(0)
        out.append(s)
    assert (x, words) == (1 << 16, [])
    return out


def draws(kind: str, n: int) -> np.ndarray:
    g = np.random.default_rng(0)
    values = {
        "uniform": lambda: g.integers(0, 256, n),
        "normal": lambda: np.clip(128 + 20 * g.standard_normal(n), 0, 255),
        "rare": lambda: (g.random(n) < 0.02) * 200,
        "sparse": lambda: (g.random(n) < 0.1) * g.integers(1, 256, n),
    }
    return values[kind]().astype(np.uint8)


@pytest.mark.parametrize("kind", ["uniform", "normal", "rare", "sparse"])
@pytest.mark.parametrize(("n", "rows"), [(1, 1), (2, 64), (1000, 64), (1000, 1 << 14), (4097, 512)])
def test_there_and_back(kind: str, n: int, rows: int) -> None:
    symbols = draws(kind, n)
    symbols[:2] = (3, 4)[: min(n, 2)]  # a table of one symbol alone is never made
    f = table(np.append(symbols, 5))
    coded = rans.encode([symbols], [f], rows)
    assert np.array_equal(rans.decode(coded, [n], [f], rows)[0], symbols)


def test_the_paper_s_decoder_reads_a_lane() -> None:
    symbols = draws("normal", 700)
    f = table(symbols)
    coded = rans.encode([symbols], [f], 700)
    assert one_by_one(coded, 700, f) == symbols.tolist()


def test_streams_of_all_lengths_share_the_rows() -> None:
    streams = [draws(k, n) for k, n in [("sparse", 5000), ("normal", 2), ("uniform", 999), ("rare", 5001)]]
    streams[1][:] = (7, 8)
    tables = [table(s) for s in streams]
    coded = rans.encode(streams, tables, 128)
    made = rans.decode(coded, [len(s) for s in streams], tables, 128)
    for a, b in zip(streams, made, strict=True):
        assert np.array_equal(a, b)
    assert rans.decode(rans.encode([], [], 128), [], [], 128) == []


@pytest.mark.parametrize(
    ("kind", "over"), [("uniform", 1.002), ("normal", 1.004), ("sparse", 1.01), ("rare", 1.015)]
)
def test_the_rate_is_the_entropy(kind: str, over: float) -> None:
    symbols = draws(kind, 2_000_000)
    coded = rans.encode([symbols], [table(symbols)], rans.MAX_ROWS)
    assert entropy(symbols) <= bits(coded) <= over * entropy(symbols)


@pytest.mark.parametrize("precision", [10, 12, 14])
@pytest.mark.parametrize("kind", ["uniform", "normal", "rare", "sparse"])
def test_frequencies_are_the_best_there_are(kind: str, precision: int) -> None:
    """Against the exact optimum of Σ n log₂ f with Σ f = 2^bits: unit after unit to whom it gives most."""
    counts = np.bincount(draws(kind, 50_000), minlength=256)
    f = rans.quantized(counts, precision)
    assert f.sum() == 1 << precision
    assert ((f > 0) == (counts > 0)).all()
    there = np.flatnonzero(counts)
    best = dict.fromkeys(there.tolist(), 1)
    queue = [(-counts[s] * np.log2(2), int(s)) for s in there]
    heapq.heapify(queue)
    for _ in range((1 << precision) - len(there)):
        s = queue[0][1]
        best[s] += 1
        heapq.heapreplace(queue, (-counts[s] * np.log2((best[s] + 1) / best[s]), s))
    cost = -(counts[there] * np.log2(f[there] / (1 << precision))).sum()
    optimum = -sum(counts[s] * np.log2(n / (1 << precision)) for s, n in best.items())
    assert optimum - 1e-6 <= cost <= 1.0005 * optimum


class TestRefused:
    def coded(self) -> tuple[rans.Coded, list[int], list[np.ndarray]]:
        symbols = draws("normal", 3000)
        f = table(symbols)
        return rans.encode([symbols], [f], 512), [3000], [f]

    def test_words_too_few_or_too_many(self) -> None:
        c, lengths, tables = self.coded()
        for words in (c.words[:-1], c.words[:0], np.append(c.words, c.words[:1])):
            with pytest.raises(BundleError):
                rans.decode(rans.Coded(c.states, words), lengths, tables, 512)

    def test_another_number_of_lanes(self) -> None:
        c, lengths, tables = self.coded()
        with pytest.raises(BundleError, match="lanes"):
            rans.decode(rans.Coded(c.states[:-1], c.words), lengths, tables, 512)

    def test_a_changed_bit_never_passes_unnoticed(self) -> None:
        """A changed number ends elsewhere than where the encoder began, in this lane or in a later one."""
        c, lengths, tables = self.coded()
        g = np.random.default_rng(1)
        for _ in range(60):
            states, words = c.states.copy(), c.words.copy()
            hit = states if g.random() < 0.3 else words
            hit[g.integers(len(hit))] ^= hit.dtype.type(1 << int(g.integers(16)))
            with pytest.raises(BundleError):
                rans.decode(rans.Coded(states, words), lengths, tables, 512)

    @pytest.mark.parametrize("state", [0, 1, (1 << 16) - 1, (1 << 32) - 1])
    def test_states_that_no_encoder_leaves(self, state: int) -> None:
        c, lengths, tables = self.coded()
        with pytest.raises(BundleError):
            rans.decode(rans.Coded(np.full_like(c.states, state), c.words), lengths, tables, 512)

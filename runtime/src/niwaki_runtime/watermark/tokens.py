"""Tokens: drawn as ever, by chance that the key repeats (Aaronson 2022).

Of tokens with probabilities p, argmax r^(1/p) is one drawn by p where r is uniform. Here r is a function of
the key and the four tokens before, so whoever has the key can tell that the r of a text's tokens lie near 1:
each −ln(1 − r) is exponential by chance, and their sum Gamma(n).

A context that a sample had already, and its first four places, are drawn by the sampler's own noise: else a
text runs in circles, and all samples of one beginning are the same. For the same reason a sample has one of
64 offsets of all its r, by its own noise; the detector tries them all and pays for it (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from niwaki_runtime import noise
from niwaki_runtime.specs import ValueSpec
from niwaki_runtime.watermark.base import Evidence, Mark, TokenMark, register_mark
from niwaki_runtime.watermark.chances import LEAST, at_least_one, combined, gamma_tail
from niwaki_runtime.watermark.key import Key

__all__ = ["CONTEXT", "OFFSETS", "Races", "TextMark"]

CONTEXT = 4
OFFSETS = 64
_CELL = 2.0**-32


class Races(TokenMark):
    """Draws the tokens of marked texts."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def choose(
        self, p: np.ndarray, u: np.ndarray, before: Sequence[Sequence[int]], nonces: np.ndarray
    ) -> np.ndarray:
        cdf = np.cumsum(p, axis=1)
        drawn = np.minimum((cdf < u.reshape(-1, 1) * cdf[:, -1:]).sum(axis=1), p.shape[1] - 1)
        for i, tokens in enumerate(before):
            if len(tokens) < CONTEXT or repeats(tokens):
                continue
            words = noise.raw(
                self._key.seed("token", *tokens[-CONTEXT:]), 0, 1, p.shape[1], stream="watermark"
            )[0]
            r = _shifted(words, int(nonces[i] * OFFSETS))
            with np.errstate(divide="ignore"):
                drawn[i] = np.argmin(np.where(p[i] > 0, -np.log(r) / p[i], np.inf))
        return np.asarray(drawn, dtype=np.int64)


def repeats(tokens: Sequence[int]) -> bool:
    """Whether the last tokens stood one after another before."""
    last = tuple(tokens[-CONTEXT:])
    return any(tuple(tokens[i : i + CONTEXT]) == last for i in range(len(tokens) - CONTEXT))


def _shifted(words: np.ndarray, offset: int) -> np.ndarray:
    """Uniforms in (0, 1) of 32-bit words, moved around the circle by a share of it."""
    moved = words.astype(np.uint32) + np.uint32(offset * ((1 << 32) // OFFSETS))
    return (moved + 0.5) * _CELL


@register_mark("text")
class TextMark(Mark):
    """Of texts whose tokens are drawn one after another (`Autoregressive`)."""

    def drawing(self, key: Key) -> TokenMark:
        return Races(key)

    def evidence(
        self, samples: Sequence[np.ndarray], spec: ValueSpec, keys: Sequence[Key]
    ) -> list[tuple[list[Evidence], Evidence]]:
        """A context and its token count once, in a text and in the whole set."""
        found = []
        for key in keys:
            known: set[tuple[int, ...]] = set()
            alone = [_evidence(places(x), key) for x in samples]
            fresh = [_evidence([w for w in places(x) if not _enter(w, known)], key) for x in samples]
            counted = [one for one in fresh if one.n]
            p = combined([one.p for one in counted])
            total = sum(one.statistic for one in counted)
            found.append((alone, Evidence(p, total, sum(one.n for one in counted))))
        return found


def _enter(window: tuple[int, ...], known: set[tuple[int, ...]]) -> bool:
    """Whether it was known; it is from now on."""
    there = window in known
    known.add(window)
    return there


def places(x: np.ndarray) -> list[tuple[int, ...]]:
    """Each context of a text with the token after it, once, up to where −1 fills it up."""
    tokens = np.asarray(x).reshape(-1)
    tokens = tokens[: int(np.argmax(tokens < 0))] if (tokens < 0).any() else tokens
    listed = tokens.tolist()
    contexts: dict[tuple[int, ...], tuple[int, ...]] = {}
    for i in range(len(listed) - CONTEXT):
        window = tuple(listed[i : i + CONTEXT + 1])
        contexts.setdefault(window[:-1], window)
    return list(contexts.values())


def _evidence(windows: Sequence[tuple[int, ...]], key: Key) -> Evidence:
    if not windows:
        return Evidence(1.0, 0.0, 0)
    words = np.array([_word(window, key) for window in windows], dtype=np.uint32)
    sums = [float(-np.log1p(-_shifted(words, o)).sum()) for o in range(OFFSETS)]
    best = max(sums)
    return Evidence(max(LEAST, at_least_one(gamma_tail(len(windows), best), OFFSETS)), best, len(windows))


def _word(window: tuple[int, ...], key: Key) -> int:
    """The 32-bit word that the last token had in the race after the others."""
    token = window[-1]
    seed = key.seed("token", *window[:-1])
    # Sample j of eight words is the block that holds the words 8j … 8j+7 of one long sample.
    return int(noise.raw(seed, token // 8, 1, 8, stream="watermark")[0, token % 8])

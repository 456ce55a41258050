"""Speculative decoding: a small network guesses some tokens ahead, the large one reads them all at once, and
what is kept has just the large one's distribution (Leviathan et al. 2023; Chen et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.base import Array, Backend, Noise, Runner
from niwaki_runtime.samplers.prompts import ABSENT, Layout
from niwaki_runtime.samplers.reading import Reader
from niwaki_runtime.samplers.steer import Steer, mask
from niwaki_runtime.samplers.tokens import pick

if TYPE_CHECKING:
    from niwaki_runtime.samplers.autoregressive import Autoregressive

__all__ = ["Counts", "Draws", "Side", "speculate"]


_FEW = 2
"""New tokens up to which they are read one by one: after a round the draft has two, its last guess and what
the target added."""


@dataclass
class Counts:
    """What one or several samples took.

    made:     tokens
    reads:    calls of the large network after the prompt
    guessed:  tokens that the small one guessed
    tested:   guesses that were put to the test: all up to the first that was refused
    accepted: guesses that were kept
    """

    made: int = 0
    reads: int = 0
    guessed: int = 0
    tested: int = 0
    accepted: int = 0


class Draws:
    """The chances of one sample, from numbers that belong to each place of it.

    Three for a place: which token, whether a guess is kept, which token in its stead. A place may be asked
    again after guesses before it were refused: nothing that is kept depends on what it said then.
    """

    def __init__(self, noise: Noise, layout: Layout, i: int) -> None:
        self._noise, self._before = noise.of(i), int(layout.led[i])

    def _at(self, at: int) -> np.ndarray:
        return self._noise.uniform(3, draw=at - self._before)[0]

    def token(self, p: np.ndarray, at: int) -> int:
        """A token by probabilities `(V,)`."""
        return int(pick(p[None], self._at(at)[:1])[0])

    def kept(self, chance: float, at: int) -> bool:
        """Whether a guess is kept that has this chance."""
        return bool(self._at(at)[1] < chance)

    def instead(self, p: np.ndarray, at: int) -> int:
        """A token in the stead of a refused guess."""
        return int(pick(p[None], self._at(at)[2:])[0])


class Side:
    """One of the two networks, with what it has read of one sample."""

    def __init__(
        self,
        sampler: Autoregressive,
        graphs: Mapping[str, Runner],
        asked: Sequence[Array],
        backend: Backend,
        called: str,
    ) -> None:
        if not sampler.prefill:
            raise CallError(
                f"the {called} reads token by token and cannot take a guess back: it has no graph that reads "
                "many at once"
            )
        self.sampler = sampler
        self._reader = Reader(sampler, graphs, asked, 1, backend)
        self._known = 0

    def after(self, tokens: Sequence[int], last: int) -> np.ndarray:
        """Logits `(last, V)` of what follows each of the last tokens; reads those that are new."""
        begin = min(self._known, len(tokens) - last)
        self._known = len(tokens)
        if last == 1 and len(tokens) - begin <= _FEW:
            for at in range(begin, len(tokens)):
                rows = self._reader.step(np.array([tokens[at]]), at)
            return rows
        return self._reader.reread(np.array([tokens]), begin)[0][-last:]

    def forget(self, count: int) -> None:
        """Only the first so many tokens count as read: what was written after them is written again."""
        self._known = min(self._known, count)

    def probabilities(
        self, logits: np.ndarray, history: Sequence[int], steer: Steer, state: Any, left: int
    ) -> np.ndarray:
        """Of the next token `(V,)`, after all that its sampler and the steer make of the logits."""
        said = self.sampler.adjusted(logits[None], np.array([history]))[0]
        said = mask(steer, state, left, np.asarray(said, dtype=np.float64), self.sampler.ends())
        p: np.ndarray = self.sampler.choice.probabilities(said[None])[0]
        return p


def speculate(
    target: Side, draft: Side, layout: Layout, i: int, draws: Draws, guesses: int, steer: Steer | None
) -> Counts:
    """Make sample i of a layout: its tokens have the distribution that `target` alone gives them."""
    steer, counts, ends = steer or Steer(), Counts(), target.sampler.ends()
    begin, prompt = layout.begin(i), layout.prompt(i)
    read: list[int] = layout.read[i, :begin].tolist()
    state, room = steer.begin(prompt, layout.length - len(prompt)), layout.length - len(prompt)
    end, over = begin + room, not room or steer.ended(state, room)
    rest = ABSENT
    while not over:
        # One place stays for the token that the target adds to guesses that are all kept.
        ahead = _guessed(
            draft, read, begin + room, draws, min(guesses, begin + room - len(read) - 1), steer, state
        )
        logits = target.after([*read, *ahead.tokens], len(ahead.tokens) + 1)
        counts.reads += 1
        counts.guessed += len(ahead.tokens)
        for j in range(len(ahead.tokens) + 1):
            at = len(read)
            p = target.probabilities(logits[j], read, steer, state, end - at)
            if j < len(ahead.tokens):
                token, q = ahead.tokens[j], ahead.q[j]
                if p.shape != q.shape:
                    raise CallError(
                        f"the target has {len(p)} tokens, and the draft {len(q)}: not the same ones"
                    )
                counts.tested += 1
                kept = draws.kept(float(p[token] / q[token]), at)
                counts.accepted += kept
                if not kept:
                    token = draws.instead(_without(p, q), at)
            else:
                token, kept = draws.token(p, at), False
            read.append(token)
            if token in ends:
                over, rest = True, token
            else:
                state = steer.advance(state, token)
                over = len(read) == end or steer.ended(state, end - len(read))
            if over or not kept:
                break
        target.forget(len(read) - 1)
        draft.forget(len(read) - 1)
    counts.made = len(read) - begin
    layout.write(i, steer.trimmed(prompt, read[begin:]) if rest == ABSENT else read[begin:], rest)
    return counts


@dataclass
class _Ahead:
    """Tokens that the draft guesses, and its probabilities of each place."""

    tokens: list[int]
    q: list[np.ndarray]


def _guessed(
    draft: Side, read: list[int], end: int, draws: Draws, most: int, steer: Steer, state: Any
) -> _Ahead:
    """Up to `most` tokens ahead of what is read; none after an end."""
    ahead, ends = _Ahead([], []), draft.sampler.ends()
    while len(ahead.tokens) < most:
        so_far = [*read, *ahead.tokens]
        q = draft.probabilities(draft.after(so_far, 1)[0], so_far, steer, state, end - len(so_far))
        token = draws.token(q, len(so_far))
        ahead.tokens.append(token)
        ahead.q.append(q)
        if token in ends:
            break
        state = steer.advance(state, token)
        if steer.ended(state, end - len(so_far) - 1):
            break
    return ahead


def _without(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """What of p the guesses by q leave: max(p − q, 0), brought to a sum of 1; p where nothing is left but
    rounding."""
    left = np.maximum(p - q, 0.0)
    total = left.sum()
    return p if total <= 0.0 else np.asarray(left / total)

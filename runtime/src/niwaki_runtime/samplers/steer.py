"""What steers the choice of tokens from outside: which may come next, and when a sample is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from niwaki_runtime.samplers.prompts import Layout

__all__ = ["Steer", "Steered", "mask"]


class Steer:
    """Follows samples as they are made. This one lets everything pass.

    A state is one sample's, and never changed: whoever tries several ways on from one place keeps it.
    """

    def begin(self, prompt: Sequence[int], left: int) -> Any:
        """The state after the tokens of a prompt, before up to `left` more.

        Raises CallError where so few cannot do.
        """
        return None

    def advance(self, state: Any, token: int) -> Any:
        """The state after one token more."""
        return state

    def allow(self, state: Any, left: int) -> np.ndarray | None:
        """Which tokens `(V,)` bool may come next where `left` may; None for all. It is not to be changed."""
        return None

    def final(self, state: Any) -> bool:
        """Whether the model may end the sample here, by a token that ends it."""
        return True

    def ended(self, state: Any, left: int) -> bool:
        """Whether the sample is over, whatever the model says."""
        return False

    def held(self, state: Any) -> int:
        """Bytes at the end of the text that may still be taken away."""
        return 0

    def trimmed(self, prompt: Sequence[int], tokens: Sequence[int]) -> list[int]:
        """What is left of the tokens that were made after the prompt, once the sample is over."""
        return list(tokens)


class Steered:
    """The samples of one batch under a steer.

    ends: tokens that end a sample: they may come where the text may end
    over: which samples it has ended `(n,)`
    """

    def __init__(self, steer: Steer, layout: Layout, ends: np.ndarray) -> None:
        self._steer, self._layout, self._ends = steer, layout, ends
        given = layout.samples()
        self.states = [
            steer.begin(row[:k].tolist(), layout.length - int(k))
            for row, k in zip(given, layout.lengths, strict=True)
        ]
        room = layout.length - layout.lengths
        self.over = np.array([steer.ended(s, int(k)) for s, k in zip(self.states, room, strict=True)])
        self._final: dict[int, list[int]] = {int(i): [] for i in np.flatnonzero(self.over)}

    def masked(self, logits: np.ndarray, at: int, waiting: np.ndarray) -> np.ndarray:
        """Logits `(n, V)` of column `at`, −∞ where a token may not come; samples that wait stay."""
        out = np.array(logits, dtype=np.float64)
        left = self._layout.left(at)
        for i in np.flatnonzero(~waiting):
            out[i] = mask(self._steer, self.states[i], int(left[i]), out[i], self._ends)
        return out

    def advance(self, at: int, waiting: np.ndarray) -> None:
        """Take in column `at` of the layout."""
        read, left = self._layout.read, self._layout.left(at)
        for i in np.flatnonzero(~waiting & ~np.isin(read[:, at], self._ends)).tolist():
            self.states[i] = self._steer.advance(self.states[i], int(read[i, at]))
            if self._steer.ended(self.states[i], int(left[i]) - 1):
                self.over[i] = True
                made = read[i, self._layout.begin(i) : at + 1].tolist()
                self._final[i] = self._steer.trimmed(self._layout.prompt(i), made)

    def held(self, i: int) -> int:
        """Bytes at the end of the sample's text that may still be taken away."""
        return self._steer.held(self.states[i])

    def kept(self, i: int) -> list[int]:
        """What is left of the tokens made for a sample that is over."""
        return self._final[i][: self._layout.length - int(self._layout.lengths[i])]

    def finish(self) -> None:
        """Write what is left of the samples that it has ended, and −1 after it."""
        for i, tokens in self._final.items():
            self._layout.write(i, tokens)


def mask(steer: Steer, state: Any, left: int, logits: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Logits `(V,)`, −∞ where a token may not come; `ends` may where the text may end."""
    allowed, final = steer.allow(state, left), steer.final(state)
    if allowed is None and final:
        return logits
    may = np.ones(len(logits), dtype=bool)
    if allowed is not None:
        may[: len(allowed)], may[len(allowed) :] = allowed[: len(may)], False
    may[ends] = final
    return np.where(may, logits, -np.inf)

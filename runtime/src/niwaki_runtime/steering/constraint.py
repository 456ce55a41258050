"""Texts that an automaton accepts: masks of tokens, such that every sample can still end in time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.steer import Steer
from niwaki_runtime.steering.automaton import DEAD, Automaton, compiled
from niwaki_runtime.steering.expressions import parse
from niwaki_runtime.steering.registry import steering
from niwaki_runtime.steering.vocabulary import Vocabulary

__all__ = ["Constraint", "constraint"]

_KEPT = 1024
"""States whose tokens are kept, so that the next visit costs nothing."""
_NEVER = np.int64(1) << 40


class _Place(NamedTuple):
    """A state of the automaton, and whether any text stands before the next token."""

    state: int
    begun: bool


class Constraint(Steer):
    """What is made after the prompt is a text that the automaton accepts, whole.

    A token may come where its bytes lead to a state from which the tokens that are left suffice: for every
    state the least number of tokens to an end is known. Tokens without text do not come. A sample is over
    where no token may come; the model may end it (by a token that ends it) wherever the text is whole.
    """

    def __init__(self, automaton: Automaton, vocabulary: Vocabulary, said: str) -> None:
        """said: how messages call what is asked"""
        self._automaton, self._vocabulary, self._said = automaton, vocabulary, said
        self._walks = {False: _Walk(vocabulary.first), True: _Walk(vocabulary.later)}
        self._nexts: dict[Hashable, np.ndarray] = {}
        self._masks: dict[Hashable, np.ndarray] = {}
        self._need = self._least()

    def begin(self, prompt: Sequence[int], left: int) -> _Place:
        place = _Place(self._automaton.start, bool(self._vocabulary.text(prompt, False)))
        need = self._needed(place)
        if need >= _NEVER:
            raise CallError(f"no text of this model's tokens fulfils {self._said}")
        if need > left:
            raise CallError(
                f"{self._said} needs at least {need} tokens, and there is room for {left}; a longer sample "
                "or a shorter prompt can hold it"
            )
        return place

    def advance(self, state: _Place, token: int) -> _Place:
        return _Place(int(self._after(state)[token]), True)

    def allow(self, state: _Place, left: int) -> np.ndarray:
        left = min(left, self._enough)
        return _kept(self._masks, (state, left), lambda: self._need[self._after(state)] < left)

    def final(self, state: _Place) -> bool:
        return bool(self._automaton.accept[state.state])

    def ended(self, state: _Place, left: int) -> bool:
        return not self.allow(state, left).any()

    def _after(self, place: _Place) -> np.ndarray:
        """The state after each token `(V,)`."""
        walk = self._walks[place.begun]
        return _kept(self._nexts, place, lambda: walk(self._automaton.table, place.state))

    def _needed(self, place: _Place) -> int:
        """The least number of tokens to an end from a place."""
        if self.final(place):
            return 0
        return int(1 + self._need[self._after(place)].min(initial=_NEVER))

    def _least(self) -> np.ndarray:
        """The least number of tokens to an end, for every state that tokens lead to, text before it."""
        start = self._automaton.start
        before: dict[int, list[int]] = {}
        todo = [start, *np.unique(self._after(_Place(start, False))).tolist()]
        known = {DEAD, *todo}
        todo = [state for state in dict.fromkeys(todo) if state != DEAD]
        for state in todo:
            for after in np.unique(self._walks[True](self._automaton.table, state)).tolist():
                before.setdefault(after, []).append(state)
                if after not in known:
                    known.add(after)
                    todo.append(after)
        need = np.full(len(self._automaton.accept), _NEVER, dtype=np.int64)
        ring = [state for state in todo if self._automaton.accept[state]]
        need[ring] = 0
        for state in ring:
            for earlier in before.get(state, ()):
                if need[earlier] == _NEVER:
                    need[earlier] = need[state] + 1
                    ring.append(earlier)
        self._enough = int(need[need < _NEVER].max(initial=0)) + 1
        return need


class _Walk:
    """All tokens' bytes through an automaton at once, longest tokens first."""

    def __init__(self, texts: Sequence[bytes]) -> None:
        order = sorted(range(len(texts)), key=lambda t: -len(texts[t]))
        self._order = np.array(order, dtype=np.int64)
        longest = len(texts[order[0]])
        table = np.frombuffer(b"".join(texts[t].ljust(longest, b"\0") for t in order), dtype=np.uint8)
        self._columns = np.ascontiguousarray(table.reshape(len(texts), longest).T)
        lengths = np.array([len(texts[t]) for t in order])
        self._active = [int((lengths > j).sum()) for j in range(longest)]

    def __call__(self, table: np.ndarray, state: int) -> np.ndarray:
        """The state after each token from `state`; DEAD for tokens without text."""
        now = np.full(len(self._order), DEAD, dtype=np.int32)
        now[: self._active[0]] = state
        for column, active in zip(self._columns, self._active, strict=True):
            now[:active] = table[now[:active], column[:active]]
        after = np.empty_like(now)
        after[self._order] = now
        return after


def _kept(cache: dict[Hashable, np.ndarray], key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What was made before, or is made now; the oldest goes where there are too many."""
    found = cache.get(key)
    if found is None:
        cache[key] = found = make()
        if len(cache) > _KEPT:
            cache.pop(next(iter(cache)), None)
    return found


@lru_cache(maxsize=16)
def constraint(expression: str, vocabulary: Vocabulary, said: str) -> Constraint:
    """Of an expression; the last few are kept, since every call of a model asks again."""
    return Constraint(compiled(parse(expression)), vocabulary, said)


@steering("regex")
def regular_expression(value: Any, vocabulary: Any) -> Steer:
    """`regex="(yes|no), [0-9]+"`"""
    if not isinstance(value, str):
        raise CallError(f"a regular expression is a text, not {value!r:.80}")
    return constraint(value, vocabulary(), f"the expression {value!r:.80}")

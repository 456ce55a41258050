"""Stop strings: a text ends before the first of them, also where it lies across tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.steer import Steer
from niwaki_runtime.steering.registry import steering
from niwaki_runtime.steering.vocabulary import Vocabulary

__all__ = ["StopStrings"]


class _Seen(NamedTuple):
    """How a text that was made ends, whether a string came, and whether any text was there before."""

    tail: bytes
    hit: bool
    begun: bool


class StopStrings(Steer):
    """Ends a sample before the string that is complete first (of several that end together, the longest).

    Only what is made counts, not the prompt. A token that the string begins in the middle of is written
    again by tokens that spell what comes before; what none spell, or there is no room for, is left out.
    """

    def __init__(self, strings: Sequence[str], vocabulary: Vocabulary) -> None:
        if not strings or not all(strings):
            raise CallError("a stop string must not be empty")
        self._strings = [text.encode() for text in strings]
        self._longest = max(map(len, self._strings))
        self._vocabulary = vocabulary

    def begin(self, prompt: Sequence[int], left: int) -> _Seen:
        return _Seen(b"", False, bool(self._vocabulary.text(prompt, False)))

    def advance(self, state: _Seen, token: int) -> _Seen:
        added = self._vocabulary.added(token, state.begun)
        text = state.tail + added
        hit = any(string in text for string in self._strings)
        return _Seen(text[max(0, len(text) - self._longest + 1) :], hit, state.begun or bool(added))

    def ended(self, state: _Seen, left: int) -> bool:
        return state.hit

    def held(self, state: _Seen) -> int:
        """The longest end that is the beginning of a string."""
        for size in range(len(state.tail), 0, -1):
            if any(string.startswith(state.tail[-size:]) for string in self._strings):
                return size
        return 0

    def trimmed(self, prompt: Sequence[int], tokens: Sequence[int]) -> list[int]:
        begun = bool(self._vocabulary.text(prompt, False))
        text = self._vocabulary.text(tokens, begun)
        found = [(at + len(s), at) for s in self._strings if (at := text.find(s)) >= 0]
        if not found:
            return list(tokens)
        cut, kept, size = min(found)[1], [], 0
        for token in tokens:
            added = self._vocabulary.added(token, begun or size > 0)
            if size + len(added) > cut:
                break
            kept.append(token)
            size += len(added)
            if size == cut:
                break
        return kept + self._vocabulary.spelled(text[size:cut], begun or size > 0)


@steering("stop")
def stop_strings(value: Any, vocabulary: Any) -> Steer | None:
    """`stop="\\n\\n"`, or several; numbers are tokens, and the sampler's own affair."""
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list | tuple) or not all(isinstance(s, str) for s in strings):
        return None
    return StopStrings(strings, vocabulary())

"""What each token of a vocabulary adds to a text, in bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

from niwaki_runtime.errors import CallError
from niwaki_runtime.tokenizer import Tokenizer

__all__ = ["Vocabulary", "vocabulary_of"]


class Vocabulary:
    """The tokens of a tokenizer whose texts stand one after another in a text, as those of bytes, byte pairs
    and most pieces do.

    first: bytes of every token where nothing stands before it
    later: the same where something does (a blank may come between)
    Raises CallError for a tokenizer whose tokens change what stands beside them.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        size = tokenizer.largest + 1
        self.first = [tokenizer.to_bytes([t]) for t in range(size)]
        known = next((t for t in range(size) if self.first[t]), None)
        if known is None:
            raise CallError("this model's tokenizer has no token that stands for a text")
        before, again = self.first[known], len(tokenizer.to_bytes([known, known])) - len(self.first[known])
        self.later = []
        for token in range(size):
            text = tokenizer.to_bytes([known, token, known])
            self.later.append(text[len(before) : len(text) - again])
            if (
                text[: len(before)] != before
                or tokenizer.to_bytes([known, token]) != text[: len(text) - again]
            ):
                raise CallError(
                    f"token {token} of this model changes the text beside it: its texts cannot be steered"
                )

    def text(self, tokens: Sequence[int], begun: bool) -> bytes:
        """What tokens add to a text that has begun, or is still empty."""
        made = bytearray()
        for token in tokens:
            made += self.added(token, begun or bool(made))
        return bytes(made)

    def added(self, token: int, begun: bool) -> bytes:
        """What one token adds; nothing where it is none."""
        table = self.later if begun else self.first
        return table[token] if 0 <= token < len(table) else b""

    def spelled(self, text: bytes, begun: bool) -> list[int]:
        """The fewest tokens that add `text`, or as much of its beginning as tokens can say."""
        best: list[tuple[int, int, int] | None] = [(0, -1, -1)] + [None] * len(text)
        for end in range(1, len(text) + 1):
            for start in range(max(0, end - self._longest), end):
                here = best[start]
                token = self._numbers[begun or start > 0].get(text[start:end])
                if here is not None and token is not None:
                    new = (here[0] + 1, token, start)
                    best[end] = new if best[end] is None else min(best[end] or new, new)
        at, tokens = max(i for i, one in enumerate(best) if one is not None), []
        while at > 0:
            _, token, at = best[at] or (0, 0, 0)
            tokens.append(token)
        return tokens[::-1]

    @cached_property
    def _numbers(self) -> dict[bool, dict[bytes, int]]:
        tables = {False: self.first, True: self.later}
        return {k: {text: t for t, text in reversed(list(enumerate(v))) if text} for k, v in tables.items()}

    @cached_property
    def _longest(self) -> int:
        return max(map(len, [*self.first, *self.later]))


@lru_cache(maxsize=8)
def vocabulary_of(tokenizer: str) -> Vocabulary:
    """Of the text of a `tokenizer.json`; the last few are kept."""
    return Vocabulary(Tokenizer(tokenizer))

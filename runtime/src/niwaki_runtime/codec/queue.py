"""The message of a direct coder: symbols come out in the order in which they went in, in as many bits as
their distributions say. Range coding (Martin 1979) by `constriction`, which is given integer frequencies."""

from __future__ import annotations

import numpy as np

from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.codec.stack import constriction, probabilities

__all__ = ["Queue"]


class Queue:
    """Symbols under integer frequencies.

    words: what `to_words` gave, to take symbols out; None to put them in
    """

    def __init__(self, words: np.ndarray | None = None) -> None:
        coder = constriction()
        self._model = coder.stream.model.Categorical(perfect=False)
        self._in = coder.stream.queue.RangeEncoder() if words is None else None
        self._out = None if words is None else coder.stream.queue.RangeDecoder(words)

    def push(self, symbols: np.ndarray, frequencies: np.ndarray) -> None:
        """`(n,)` symbols under `(n, K)` frequencies."""
        assert self._in is not None
        if len(symbols):
            self._in.encode(symbols.astype(np.int32), self._model, probabilities(frequencies))

    def pop(self, frequencies: np.ndarray) -> np.ndarray:
        """`(n,)` symbols under `(n, K)` frequencies, int64. Raises CodecError for what no encoder writes."""
        assert self._out is not None
        if not len(frequencies):
            return np.empty(0, np.int64)
        try:
            return np.asarray(self._out.decode(self._model, probabilities(frequencies)), np.int64)
        except AssertionError as error:  # constriction's own
            raise CodecError("the coded block holds what no encoder writes") from error

    def is_empty(self) -> bool:
        """Whether no word is left."""
        return self._out is None or bool(self._out.maybe_exhausted())

    def to_words(self) -> np.ndarray:
        """The message, uint32."""
        assert self._in is not None
        return np.asarray(self._in.get_compressed(), np.uint32)

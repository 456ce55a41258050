"""The message: a stack of symbols, from which bits can be taken before any are put in.

What bits-back coding needs is that popping symbols under any distribution undoes pushing them: asymmetric
numeral systems (Duda 2013, arXiv:1311.2540). The coder is `constriction` (Bamler 2022, arXiv:2201.01741); it
is given integer frequencies.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki_runtime import noise
from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.codec.tables import PRECISION
from niwaki_runtime.errors import NiwakiError

__all__ = ["Stack", "constriction", "probabilities"]

_SEED = 0x6E69_7761_6B69  # the words of "niwaki": what lies under the message is agreed, and is not sent


def constriction() -> Any:
    """The entropy coder. Raises NiwakiError where it is not installed."""
    try:
        import constriction as coder
    except ImportError as error:
        raise NiwakiError(
            "the codec needs the package `constriction`; install niwaki-runtime[codec]"
        ) from error
    return coder


def _ground(words: int) -> np.ndarray:
    """The random words that every stack stands on."""
    return (noise.uniform(_SEED, 0, 1, words)[0] * 2.0**32).astype(np.uint32)


def probabilities(frequencies: np.ndarray) -> np.ndarray:
    """Frequencies as the coder wants them: exact, and row by row in memory; it does not look at strides."""
    return np.ascontiguousarray(frequencies / float(1 << PRECISION))


class Stack:
    """Symbols pushed and popped under integer frequencies.

    reserve: words of random bits to begin on, so that symbols can be popped before any is pushed
    """

    def __init__(self, reserve: int) -> None:
        self._coder = constriction()
        self._ground = _ground(reserve)
        self._ans = self._coder.stream.stack.AnsCoder(self._ground, seal=True)

    @classmethod
    def from_words(cls, words: np.ndarray, reserve: int, untouched: int) -> Stack:
        """The stack that `to_words` wrote."""
        if untouched > reserve:
            raise CodecError("the coded block contradicts itself")
        stack = cls(reserve)
        whole = np.concatenate([stack._ground[:untouched], words])
        if not len(whole) or whole[-1] == 0:
            raise CodecError("the coded block ends in a word that no encoder writes")
        stack._ans = stack._coder.stream.stack.AnsCoder(whole)
        return stack

    def push(self, symbols: np.ndarray, frequencies: np.ndarray) -> None:
        """`(n,)` symbols under `(n, K)` frequencies."""
        self._ans.encode_reverse(symbols.astype(np.int32), self._categorical(), probabilities(frequencies))

    def pop(self, frequencies: np.ndarray) -> np.ndarray:
        """`(n,)` symbols under `(n, K)` frequencies, int64."""
        found = self._ans.decode(self._categorical(), probabilities(frequencies))
        return np.asarray(found, np.int64)

    def push_uniform(self, symbols: np.ndarray, bits: int) -> None:
        """`(n,)` symbols below 2^bits, at that many bits each."""
        self._ans.encode_reverse(symbols.astype(np.int32), self._uniform(bits))

    def pop_uniform(self, n: int, bits: int) -> np.ndarray:
        """`(n,)` symbols below 2^bits, int64."""
        return np.asarray(self._ans.decode(self._uniform(bits), n), np.int64)

    def push_sized(self, symbols: np.ndarray, sizes: np.ndarray) -> None:
        """`(n,)` symbols, each below its size ≤ 2²⁰, all of them equally probable."""
        few = sizes > 1
        if few.any():
            self._ans.encode_reverse(
                symbols[few].astype(np.int32), self._coder.stream.model.Uniform(), sizes[few].astype(np.int32)
            )

    def pop_sized(self, sizes: np.ndarray) -> np.ndarray:
        """`(n,)` symbols below the sizes, int64; undoes `push_sized`."""
        found, few = np.zeros(len(sizes), np.int64), sizes > 1
        if few.any():
            found[few] = self._ans.decode(self._coder.stream.model.Uniform(), sizes[few].astype(np.int32))
        return found

    @property
    def bits(self) -> int:
        """How many bits lie there, the ground's included."""
        return int(self._ans.num_valid_bits())

    def is_ground(self) -> bool:
        """Whether all that was pushed has been popped, and the reverse."""
        try:
            return bool(np.array_equal(self._ans.get_compressed(unseal=True), self._ground))
        except Exception:  # constriction's own: the seal is gone
            return False

    def to_words(self) -> tuple[np.ndarray, int]:
        """The message as uint32 words, and how many words of the ground below it were never touched."""
        words = np.asarray(self._ans.get_compressed())
        n = min(len(words), len(self._ground))
        differ = np.flatnonzero(words[:n] != self._ground[:n])
        untouched = int(differ[0]) if len(differ) else n
        return words[untouched:], untouched

    def _categorical(self) -> Any:
        return self._coder.stream.model.Categorical(perfect=False)

    def _uniform(self, bits: int) -> Any:
        return self._coder.stream.model.Uniform(1 << bits)

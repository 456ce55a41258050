"""Texts as small files, by a model of tokens and the tokenizer that lies in its bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from niwaki_runtime.codec.codec import Codec, Coded, Decoded
from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers.prompts import ABSENT
from niwaki_runtime.tokenizer import Tokenizer

__all__ = ["DecodedTexts", "TextCodec"]

_LOST = "\ufffd".encode()
"""What stands in a text for tokens that are lost."""


@dataclass(frozen=True)
class DecodedTexts:
    """What a coded file of texts held.

    texts: bytes of each, UTF-8; � stands where a damaged block lay
    names: what they were called, where they were files
    lost:  numbers of the texts of which something is lost
    """

    texts: tuple[bytes, ...]
    names: tuple[str, ...]
    lost: tuple[int, ...]


class TextCodec:
    """Texts one after another, cut into windows as long as the model's samples; without loss.

    The model begins anew with every window, as it does with samples. A bad byte costs the windows of a block.
    Raises CallError where the bundle has no tokenizer, or its codec does not write tokens.
    """

    def __init__(self, codec: Codec) -> None:
        if codec.tokenizer is None or not codec.spec.is_tokens:
            raise CallError(
                "texts are coded by a model of tokens whose bundle has a tokenizer; this has none"
            )
        self._codec, self._tokenizer, self._length = codec, codec.tokenizer, codec.spec.size

    def encode(
        self,
        texts: Sequence[str],
        *,
        labels: Mapping[str, np.ndarray] | None = None,
        names: Sequence[str] = (),
        block: int = 32,
        progress: Callable[[int, int], None] | None = None,
    ) -> Coded:
        """Texts as a file; `block` windows are lost together with a bad byte.

        labels: what each window is, for a model that is conditioned; what is left out is chosen
        Raises CallError, before anything is coded, for a text that the tokenizer does not give back byte for
        byte.
        """
        rows = [self._tokens(text, names[i] if i < len(names) else f"{i}") for i, text in enumerate(texts)]
        stream = np.array([token for row in rows for token in row], np.int64)
        windows = np.full((-(-len(stream) // self._length), self._length), ABSENT, np.int64)
        windows.reshape(-1)[: len(stream)] = stream
        coded = self._codec.encode(
            windows, labels=labels, names=names, block=block, lengths=[len(row) for row in rows],
            progress=progress,
        )  # fmt: skip
        return replace(coded, n=len(texts))

    def decode(self, data: bytes, *, progress: Callable[[int, int], None] | None = None) -> DecodedTexts:
        """The texts of a coded file. Raises CodecError as `Codec.decode`, and for a file of samples."""
        return self.texts_of(self._codec.decode(data, progress=progress))

    def texts_of(self, found: Decoded) -> DecodedTexts:
        """The texts that decoded windows are. Raises CodecError for other samples."""
        if found.lengths is None:
            raise CodecError("the file holds samples of tokens, no texts")
        stream, gone = found.x.reshape(-1), np.zeros(len(found.x), bool)
        gone[list(found.lost)] = True
        gone = np.repeat(gone, self._length)
        texts, lost, at = [], [], 0
        for i, length in enumerate(found.lengths):
            here = slice(at, at + length)
            at += length
            texts.append(_around(self._tokenizer, stream[here], gone[here]))
            if gone[here].any():
                lost.append(i)
        return DecodedTexts(tuple(texts), found.names, tuple(lost))

    def _tokens(self, text: str, name: str) -> list[int]:
        tokens = self._tokenizer.encode(text)
        if self._tokenizer.to_bytes(tokens, special=True) != text.encode():
            raise CallError(f"the model's tokenizer does not give the text '{name}' back byte for byte")
        return tokens


def _around(tokenizer: Tokenizer, tokens: np.ndarray, gone: np.ndarray) -> bytes:
    """The text of the tokens that are there, and a mark where others were."""
    edges = np.flatnonzero(np.diff(gone)) + 1
    parts = zip(np.split(tokens, edges), np.split(gone, edges), strict=True)
    return b"".join(
        _LOST if lost.any() else tokenizer.to_bytes(part, special=True) for part, lost in parts if len(part)
    )

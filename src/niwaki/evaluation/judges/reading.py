"""Tokens of a split, and what they are as bytes and as words."""

from __future__ import annotations

import numpy as np

from niwaki.data import Dataset
from niwaki_runtime.tokenizer import FILE, Tokenizer

__all__ = ["bytes_of", "bytes_per_token", "tokens_of", "words_of"]

_BYTES = 256
_SIZE = "bytes"
"""The attribute that says how many bytes of text a window stands for; data without it are not text."""


def tokens_of(dataset: Dataset, split: str, n: int | None = None) -> np.ndarray:
    """The first n samples of a split, in the order in which their tokens are made: `(n, length)` int64."""
    return dataset.split(split).x[:n].flatten(1).cpu().numpy().astype(np.int64)


def bytes_per_token(dataset: Dataset, split: str, n: int) -> float | None:
    """Of the first n samples; None where the data are not text."""
    part = dataset.split(split)
    size = part.attributes.get(_SIZE)
    if size is None:
        return None
    return float(size[:n].double().mean()) / part.x[0].numel()


def bytes_of(dataset: Dataset, tokens: np.ndarray) -> bytes | None:
    """The text of windows, one after the other; None where the data are not text, or have no tokenizer."""
    if _SIZE not in dataset.train.attributes:
        return None
    if dataset.spec.levels <= _BYTES:
        return tokens.astype(np.uint8).tobytes()
    if FILE not in dataset.files:
        return None
    return Tokenizer(dataset.files[FILE]).to_bytes(tokens.ravel())


def words_of(dataset: Dataset, samples: np.ndarray) -> list[str] | None:
    """Samples as text, with what is no character as �; None where nothing says how to read them."""
    if FILE in dataset.files:
        tokenizer = Tokenizer(dataset.files[FILE])
        return [tokenizer.decode(row) for row in samples]
    if _SIZE in dataset.train.attributes and dataset.spec.levels <= _BYTES:
        rows = (row.astype(np.uint8).tobytes().replace(b"\0", b"\n\n") for row in samples)  # a passage's end
        return [row.decode("utf-8", errors="replace") for row in rows]
    return None

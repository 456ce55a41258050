"""Tokens of a split, and what they are as bytes and as words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from niwaki.core.contract import CallError
from niwaki.data import Dataset
from niwaki.data.reading.tokens import byte_tokenizer
from niwaki_runtime.tokenizer import FILE, Tokenizer

__all__ = ["ANSWERS", "PROMPT", "bytes_of", "bytes_per_token", "refuse_other_tokens", "tokens_of", "words_of"]

ANSWERS, PROMPT = "answers", "prompt"
"""Columns of data whose samples answer: which tokens of a sample are answers, and what the last is said
after."""
_BYTES = 256
_SIZE = "bytes"
"""The attribute that says how many bytes of text a window stands for; data without it are not text."""


def refuse_other_tokens(files: Mapping[str, str], dataset: Dataset) -> None:
    """Raises CallError where the data were cut with another tokenizer than the model's, whatever the number
    of tokens: the same numbers are then other words.

    files: what the model ships; models and data without a tokenizer are taken at their word
    """
    if FILE in files and FILE in dataset.files and _cutting(files[FILE]) != _cutting(dataset.files[FILE]):
        raise CallError(
            f"the data '{dataset.name}' were cut with another tokenizer than the model's: equal numbers are "
            "other words; name raw text without data.vocabulary, which is then cut with the model's own, or "
            "data.tokenizer=…"
        )


def _cutting(text: str) -> Any:
    """What of a tokenizer.json decides how text is cut, in one way of writing it."""
    with suppress(Exception):  # without the package, or where it does not read this: as it is written
        import tokenizers

        text = tokenizers.Tokenizer.from_str(text).to_str()
    record = json.loads(text)
    return [record.get(name) for name in ("added_tokens", "normalizer", "pre_tokenizer", "model")]


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
    if dataset.spec.levels <= _BYTES and dataset.files.get(FILE, byte_tokenizer()) == byte_tokenizer():
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

"""Text in windows of tokens: your files, or the documentation that comes with CPython.

Texts are cut into passages at blank lines; the hash of a passage decides its split, so that no passage, and
no copy of one, lies in two. Within a split the passages follow each other, an END token between them, and
are cut into windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec
from niwaki.core.store import hash_bytes
from niwaki.data.audit import Finding, shortened
from niwaki.data.cache import cached
from niwaki.data.config import DataConfig, Options, Pool, Progress, register
from niwaki.data.reading import python_docs
from niwaki.data.reading.text_files import decoded, read_text_files
from niwaki.data.reading.tokens import (
    BYTES,
    byte_tokenizer,
    encode,
    encode_with,
    given_tokenizer,
    learned_tokenizer,
    token_count,
)
from niwaki.data.splitting import SPLITS, by_hash
from niwaki_runtime.tokenizer import FILE

__all__ = ["DocsOptions", "TextOptions", "passages", "text", "tokenizer_json", "training_passages"]

VERSION = 1  # of the reading: a change here makes cached windows stale
PASSAGE = 600  # characters from which on a passage ends at the next blank line


class CutOptions(Options):
    """How text is cut with a tokenizer that is given (see `TextOptions`)."""

    tokenizer: str | None = None
    end: int | None = Field(default=None, ge=0)

    @model_serializer(mode="wrap")
    def _said(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what was not given: data that are cut otherwise stay the same data."""
        return {k: v for k, v in write(self).items() if v is not None or k not in ("tokenizer", "end")}


class DocsOptions(CutOptions):
    """Settings of `python-docs`.

    length:     tokens of one window
    vocabulary: 256 takes bytes as tokens; more learns byte pairs from the training split
    tokenizer:  a tokenizer.json (its path, its folder or its text) to cut with instead
    end:        its token that is put between passages; None puts a blank line there
    docstrings: those of the standard library too, not only the topics of `help()`
    """

    length: int = Field(default=256, ge=8, le=65536)
    vocabulary: int = Field(default=BYTES, ge=BYTES, le=100_000)
    docstrings: bool = True


class TextOptions(CutOptions):
    """Settings of `text`.

    path:       a file of UTF-8 text, or a folder of them (.txt, .md, .rst)
    length:     tokens of one window
    vocabulary: 256 takes bytes as tokens; more learns byte pairs from the training split
    tokenizer:  a tokenizer.json (its path, its folder or its text) to cut with instead
    end:        its token that is put between passages; None puts a blank line there
    """

    path: str
    length: int = Field(default=256, ge=8, le=65536)
    vocabulary: int = Field(default=BYTES, ge=BYTES, le=100_000)


def passages(documents: Iterable[str]) -> list[str]:
    """Paragraphs, joined until a passage has PASSAGE characters; NUL, which means END here, is left out."""
    found: list[str] = []
    for document in documents:
        held: list[str] = []
        for paragraph in document.replace("\0", "").replace("\r\n", "\n").split("\n\n"):
            held.append(paragraph)
            if sum(map(len, held)) >= PASSAGE:
                found.append("\n\n".join(held).strip("\n"))
                held = []
        if any(p.strip() for p in held):
            found.append("\n\n".join(held).strip("\n"))
    return [p for p in found if p.strip()]


def _windows(pieces: Sequence[str], options: Any, fractions: Sequence[float], seed: int) -> dict[str, Tensor]:
    """Windows `(n, length)`, their splits, the bytes of each, and the tokenizer's text."""
    split = _splits(pieces, fractions, seed)
    tokenizer, last = byte_tokenizer(), 1
    if options.tokenizer is not None:
        tokenizer = given_tokenizer(options.tokenizer)
        rows, last = encode_with(pieces, tokenizer, options.end)
    else:
        if options.vocabulary != BYTES:
            own = [p for p, s in zip(pieces, split, strict=True) if s == 0]
            tokenizer = learned_tokenizer(own, options.vocabulary)
        rows = encode(pieces, tokenizer, options.vocabulary)
    sizes = [_bytes_of(p, row, last) for p, row in zip(pieces, rows, strict=True)]
    x, numbers, weights = [], [], []
    for k in range(len(SPLITS)):
        mine = np.flatnonzero(split == k)
        if not len(mine):
            continue
        stream = np.concatenate([rows[i] for i in mine])
        size = np.concatenate([sizes[i] for i in mine])
        count = len(stream) // options.length
        cut = count * options.length
        x.append(stream[:cut].reshape(count, options.length))
        weights.append(size[:cut].reshape(count, options.length).sum(1))
        numbers.append(np.full(count, k))
    if not x:
        raise CallError("there is no text to train on: all that was read is blank")
    stored = np.uint8 if _levels(options) <= BYTES else np.int32
    return {
        "x": torch.from_numpy(np.concatenate(x).astype(stored)),
        "split": torch.from_numpy(np.concatenate(numbers).astype(np.int64)),
        "bytes": torch.from_numpy(np.rint(np.concatenate(weights)).astype(np.int64)),
        "tokenizer": torch.frombuffer(bytearray(tokenizer.encode()), dtype=torch.uint8).clone(),
    }


def _splits(pieces: Sequence[str], fractions: Sequence[float], seed: int) -> np.ndarray:
    return by_hash([hashlib.sha256(p.encode()).digest() for p in pieces], fractions, seed)


def training_passages(documents: Iterable[str], config: DataConfig) -> list[str]:
    """The passages of the training split: what a vocabulary is learned from."""
    pieces = passages(documents)
    split = _splits(pieces, config.fractions, config.seed)
    return [p for p, s in zip(pieces, split, strict=True) if s == 0]


def _bytes_of(passage: str, row: np.ndarray, last: int = 1) -> np.ndarray:
    """Bytes of text that each token of a passage stands for on average; the `last` ones count as one each."""
    each = len(passage.encode()) / max(len(row) - last, 1)
    return np.append(np.full(len(row) - last, each), np.ones(last))


def _levels(options: Any) -> int:
    """How many tokens there are. Raises CallError where a tokenizer that is given has another number, or not
    the token that is to stand between passages."""
    if options.tokenizer is None:
        if options.end is not None:
            raise CallError("data.end is a token of data.tokenizer, which is not given")
        return int(options.vocabulary)
    count = token_count(given_tokenizer(options.tokenizer))
    if options.vocabulary not in (BYTES, count):
        raise CallError(
            f"data.tokenizer has {count} tokens, data.vocabulary is {options.vocabulary}; leave that out"
        )
    if options.end is not None and options.end >= count:
        raise CallError(f"data.end must be a token of data.tokenizer, 0 … {count - 1}, not {options.end}")
    return count


def _ingredients(config: DataConfig, options: Any, content: Any) -> dict[str, Any]:
    given = (
        {}
        if options.tokenizer is None
        else {"tokenizer": hash_bytes(given_tokenizer(options.tokenizer).encode())}
    )
    return {
        "version": VERSION,
        "content": content,
        "options": options.model_dump(exclude={"path", "tokenizer"}) | given,
        "fractions": list(config.fractions),
        "seed": config.seed,
    }


def _pool(name: str, found: dict[str, Tensor], options: Any, findings: list[Finding]) -> Pool:
    if not len(found["x"]):
        raise CallError(f"the text is shorter than one window of {options.length} tokens")
    return Pool(
        name,
        DataSpec.of("text", (options.length,), levels=_levels(options)),
        found["x"],
        attributes={"bytes": found["bytes"]},
        assignment=found["split"].numpy(),
        findings=findings,
        files={FILE: bytes(found["tokenizer"].numpy()).decode()},
    )


def _docs(config: DataConfig, options: DocsOptions) -> tuple[dict[str, Tensor], list[Finding]]:
    return cached(
        "python-docs",
        _ingredients(config, options, python_docs.version()),
        lambda: _windows(
            passages(python_docs.documents(options.docstrings)), options, config.fractions, config.seed
        ),
    )


def _read(config: DataConfig, options: TextOptions) -> tuple[dict[str, Tensor], list[Finding]]:
    files, findings = read_text_files(options.path)
    documents, broken = [], []
    for name, content in files:
        try:
            documents.append(decoded(content))
        except ValueError as error:
            broken.append(f"{name}: {error}")
    if broken:
        words = f"{len(broken)} of {len(files)} files are not UTF-8 and were set aside"
        findings.append(Finding("error", "unreadable", words, shortened(broken)))
    if not documents:
        raise CallError(f"none of the {len(files)} files in '{options.path}' is UTF-8 text: {broken[0]}")
    found, remarks = cached(
        "text",
        _ingredients(config, options, [hash_bytes(content) for _, content in files]),
        lambda: _windows(passages(documents), options, config.fractions, config.seed),
    )
    return found, findings + remarks


@register("python-docs", DocsOptions)
def docs(config: DataConfig, options: DocsOptions, progress: Progress | None) -> Pool:
    """Windows `(n, length)` of tokens from CPython's documentation, of the version that runs."""
    found, findings = _docs(config, options)
    return _pool("python-docs", found, options, findings)


@register("text", TextOptions)
def text(config: DataConfig, options: TextOptions, progress: Progress | None) -> Pool:
    """Windows `(n, length)` of tokens from a file or a folder of UTF-8 text.

    Raises CallError for a path without text, or text shorter than a window.
    """
    found, findings = _read(config, options)
    return _pool(Path(options.path).stem or "text", found, options, findings)


def tokenizer_json(config: DataConfig) -> str:
    """The text of the tokenizer.json that the windows of `config` were made with.

    Raises CallError for a source that makes no tokens.
    """
    options = config.options()
    if not isinstance(options, DocsOptions | TextOptions):
        raise CallError(f"the data source '{config.source}' makes no tokens")
    if options.tokenizer is not None:
        return given_tokenizer(options.tokenizer)
    if options.vocabulary == BYTES:
        return byte_tokenizer()
    found, _ = _docs(config, options) if isinstance(options, DocsOptions) else _read(config, options)
    return bytes(found["tokenizer"].numpy()).decode()

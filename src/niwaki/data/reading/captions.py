"""Captions of a few words, and the `tokenizer.json` in which every word is a token."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from niwaki.core.contract import Tokens, ValueSpec
from niwaki.data.columns import Column
from niwaki_runtime.tokenizer import FILE

__all__ = ["NOTHING", "NOTHING_NAME", "caption_column", "word_tokenizer"]

NOTHING = 0
"""The token that stands where no word is: behind the end of a caption, and everywhere in one that asks
nothing."""
NOTHING_NAME = "<|nothing|>"


def word_tokenizer(words: Iterable[str]) -> str:
    """The tokenizer.json of words between blanks: `NOTHING`, then the words, each once."""
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys((NOTHING_NAME, *words)))}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": NOTHING, "content": NOTHING_NAME, **flags}],
            "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": NOTHING_NAME},
        },
        ensure_ascii=False,
    )


def caption_column(
    captions: Sequence[str], which: Tensor, *, words: Iterable[str] = (), length: int = 0
) -> tuple[Column, str]:
    """Captions as tokens, filled up with `NOTHING` to the length of the longest, and their tokenizer.json.

    captions: different texts
    which:    of them, the one of each sample `(n,)` int64
    words:    that have the first tokens, in this order, whether or not a caption holds them
    length:   of a row of tokens, at least
    """
    rows = [caption.split() for caption in captions]
    text = word_tokenizer((*words, *(word for row in rows for word in row)))
    vocabulary = json.loads(text)["model"]["vocab"]
    length = max(length, *map(len, rows))
    table = torch.full(
        (len(rows), length), NOTHING, dtype=torch.uint8 if len(vocabulary) < 256 else torch.int32
    )
    for i, row in enumerate(rows):
        table[i, : len(row)] = torch.tensor([vocabulary[word] for word in row], dtype=table.dtype)
    return Column(ValueSpec("text", (length,), "T", Tokens(len(vocabulary), FILE)), table[which]), text

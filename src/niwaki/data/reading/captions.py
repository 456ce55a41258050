"""Captions as tokens, and their `tokenizer.json`: every word is a token, or byte pairs are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from niwaki.core.contract import Tokens, ValueSpec
from niwaki.data.audit import LEFT_OUT, Finding, shortened
from niwaki.data.columns import Column
from niwaki.data.config import Options
from niwaki.data.reading.tokens import learned_tokenizer, token_count
from niwaki_runtime.tokenizer import FILE, Tokenizer, package_tokenizer

__all__ = ["NOTHING", "NOTHING_NAME", "CaptionOptions", "caption_column", "caption_texts", "word_tokenizer"]

NOTHING = 0
"""The token that stands where no word is: behind the end of a caption, and everywhere in one that asks
nothing."""
NOTHING_NAME = "<|nothing|>"


UNKNOWN_NAME = "<|unknown|>"
"""The token of words that are none."""
_LONGEST = 64
"""Tokens of a caption where nothing is said of their number, at most."""
_REPEATED = 2
"""Captions of one's own that a word has to be in, to be a token."""


class CaptionOptions(Options):
    """Settings of every source whose samples may have captions.

    captions:           true demands captions, false leaves them out, None takes them where they are
    caption_vocabulary: `words`: every word that occurs twice is a token, and all others are the unknown one;
                        or a number of tokens: byte pairs, which know no unknown words
    caption_length:     tokens of a caption: longer ones are cut; default: those of the longest, at most 64
    """

    captions: bool | None = Field(default=None, exclude_if=lambda value: value is None)
    caption_vocabulary: Literal["words"] | Annotated[int, Field(ge=257, le=100_000)] = Field(
        default="words", exclude_if=lambda value: value == "words"
    )
    caption_length: int | None = Field(default=None, ge=1, le=4096, exclude_if=lambda value: value is None)


def word_tokenizer(words: Iterable[str], unknown: bool = False) -> str:
    """The tokenizer.json of words between blanks: `NOTHING`, then the words, each once.

    unknown: words end at marks, too, and there is a token of unknown words behind `NOTHING`; without one they
             are refused
    """
    first = (NOTHING_NAME, UNKNOWN_NAME) if unknown else (NOTHING_NAME,)
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys((*first, *words)))}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": NOTHING, "content": NOTHING_NAME, **flags}],
            "normalizer": None,
            "pre_tokenizer": {"type": "Whitespace" if unknown else "WhitespaceSplit"},
            "post_processor": None,
            "decoder": None,
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": first[-1]},
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


def caption_texts(
    texts: Sequence[str], options: CaptionOptions, names: Sequence[str]
) -> tuple[Column, str, list[Finding]]:
    """Any captions as tokens, cut or filled up to one length, their tokenizer.json, and what is odd of them.

    texts: of every sample; names: of the samples, in findings
    Raises CallError where `tokenizers` is needed and not installed, and for more byte pairs than there are.
    """
    rows, tokenizer, findings = _cut(texts, options)
    longest = max(1, *map(len, rows))
    length = options.caption_length or min(longest, _LONGEST)
    long = [name for name, row in zip(names, rows, strict=True) if len(row) > length]
    if long:
        text = f"{len(long)} captions have more than {length} tokens, up to {longest}, and were cut"
        findings.append(
            Finding("warning", LEFT_OUT, f"{text}; data.caption_length says how many", shortened(long))
        )
    table = torch.full((len(rows), length), NOTHING, dtype=torch.int32)
    for i, row in enumerate(rows):
        kept = row[:length]
        table[i, : len(kept)] = torch.tensor(kept, dtype=table.dtype)
    spec = ValueSpec("text", (length,), "T", Tokens(token_count(tokenizer), FILE))
    return Column(spec, table), tokenizer, findings


def _cut(texts: Sequence[str], options: CaptionOptions) -> tuple[list[list[int]], str, list[Finding]]:
    """The tokens of every caption, and the tokenizer."""
    if options.caption_vocabulary != "words":
        size, told = options.caption_vocabulary, "data.caption_vocabulary"
        tokenizer = learned_tokenizer(texts, size, told)
        made = package_tokenizer(tokenizer, told)
        return [e.ids for e in made.encode_batch(list(texts), add_special_tokens=False)], tokenizer, []
    cutting = Tokenizer(word_tokenizer((), unknown=True))
    counts = Counter(word for text in texts for word in dict.fromkeys(cutting.words(text)))
    known = sorted(
        (word for word, n in counts.items() if n >= _REPEATED), key=lambda word: (-counts[word], word)
    )
    tokenizer = word_tokenizer(known, unknown=True)
    made = Tokenizer(tokenizer)
    findings = []
    if rare := sorted(set(counts) - set(known)):
        text = f"{len(rare)} of {len(counts)} words are in one caption alone and are unknown to models"
        findings.append(Finding("note", "captions", text, shortened(rare)))
    return [made.encode(text) for text in texts], tokenizer, findings

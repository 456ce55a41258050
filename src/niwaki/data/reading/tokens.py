"""Text as tokens: bytes, or byte pairs learned from a text; both as a `tokenizer.json`.

Sennrich, Haddow & Birch: Neural Machine Translation of Rare Words with Subword Units, ACL 2016
(https://arxiv.org/abs/1508.07909); on bytes as in Radford et al.: Language Models are Unsupervised Multitask
Learners, 2019.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from niwaki.core.contract import CallError
from niwaki.core.paths import expanded
from niwaki.core.store import read_json
from niwaki_runtime.tokenizer import FILE, Tokenizer, letters, package_tokenizer

__all__ = [
    "BYTES",
    "END",
    "END_NAME",
    "byte_tokenizer",
    "encode",
    "encode_with",
    "end_of_passages",
    "given_tokenizer",
    "learned_tokenizer",
    "token_count",
]

BYTES = 256
"""Vocabulary of plain bytes."""
END = 0
"""The token between two passages. As a byte it is NUL, which no text holds."""
END_NAME = "<|endoftext|>"


@cache
def byte_tokenizer() -> str:
    """The tokenizer.json in which every byte of UTF-8 is a token of the same number."""
    vocabulary = {letter: b for b, letter in enumerate(letters()) if b != END}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": END, "content": END_NAME, **flags}],
            "normalizer": None,
            "pre_tokenizer": level,
            "post_processor": None,
            "decoder": level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": {END_NAME: END, **vocabulary},
                "merges": [],
            },
        },
        ensure_ascii=False,
    )


def learned_tokenizer(texts: Iterable[str], vocabulary: int, setting: str = "data.vocabulary") -> str:
    """The tokenizer.json of byte pairs learned from `texts`: the passages' end, 256 bytes, then the merges.

    setting: that says how many tokens, in messages
    Raises CallError where `tokenizers` is not installed, or the texts are too short for so many tokens.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise CallError(
            "tokens beyond bytes are learned by the package 'tokenizers', which is not installed: "
            f"pip install 'niwaki[hub]', or change {setting}"
        ) from error
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_NAME],
        initial_alphabet=sorted(letters()),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    found = made.get_vocab_size()
    if found < vocabulary:
        raise CallError(f"the texts yield {found} tokens only; set {setting} to that, or give more text")
    return str(made.to_str())


def given_tokenizer(where: str) -> str:
    """The text of a tokenizer.json.

    where: its path, the folder that it lies in, or the text itself
    Raises CallError where there is none, or it is of a kind that is not known.
    """
    text = where
    if not where.lstrip().startswith("{"):
        path = expanded(where)
        path = path / FILE if path.is_dir() else path
        if not path.is_file():
            raise CallError(f"data.tokenizer: there is no {FILE} at '{where}'")
        read_json(path)  # says what is wrong with it
        text = path.read_text(encoding="utf-8")
    Tokenizer(text)
    package_tokenizer(text, "data.tokenizer")
    return text


def token_count(text: str) -> int:
    """One more than the largest number of a token."""
    record = json.loads(text)
    vocabulary = record["model"]["vocab"]
    numbers = range(len(vocabulary)) if isinstance(vocabulary, list) else vocabulary.values()
    return 1 + max([-1, *numbers, *(int(a["id"]) for a in record.get("added_tokens") or ())])


def end_of_passages(text: str) -> int | None:
    """The token that `encode` puts after every passage, of a tokenizer.json learned here; else None."""
    added = json.loads(text).get("added_tokens") or ()
    found = [int(a["id"]) for a in added if a["content"] == END_NAME]
    return END if found == [END] else None


def encode_with(passages: Sequence[str], text: str, end: int | None) -> tuple[list[np.ndarray], int]:
    """The tokens of each passage by a given tokenizer.json, and after it `end`, or a blank line where there
    is none: int64 rows, and how many of their last tokens that is."""
    made = package_tokenizer(text, "data.tokenizer")
    last = made.encode("\n\n", add_special_tokens=False).ids if end is None else [end]
    found = made.encode_batch(list(passages), add_special_tokens=False)
    return [np.array([*e.ids, *last], dtype=np.int64) for e in found], len(last)


def encode(passages: Sequence[str], tokenizer: str, vocabulary: int) -> list[np.ndarray]:
    """The tokens of each passage, END after it: int64."""
    if vocabulary == BYTES:
        rows = [np.frombuffer(p.encode(), dtype=np.uint8).astype(np.int64) for p in passages]
    else:
        import tokenizers

        made = tokenizers.Tokenizer.from_str(tokenizer)
        rows = [np.array(e.ids, dtype=np.int64) for e in made.encode_batch(list(passages))]
    return [np.append(row, END) for row in rows]

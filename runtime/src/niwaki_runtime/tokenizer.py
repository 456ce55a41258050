"""Tokens to text and back, by a `tokenizer.json`: decoding with nothing but the standard library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.member import read_member

__all__ = ["FILE", "Tokenizer", "letters", "tokenizer_of"]

FILE = "tokenizer.json"
"""Where a bundle keeps it."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Tokenizer:
    """What a `tokenizer.json` says (the format of the package `tokenizers`).

    Decoding needs no package, for tokens written as bytes (GPT-2, Llama 3, Qwen …), for those of
    SentencePiece (Llama 2, Mistral, Gemma …) and for whole words between blanks. Encoding needs none where
    every token is a byte, or a word; else `tokenizers` does it.
    Raises CallError where the text is none, or of a kind that is neither.
    """

    def __init__(self, text: str | bytes) -> None:
        try:
            record = json.loads(text)
            model = record["model"]
            vocabulary = model["vocab"]
            if not isinstance(vocabulary, Mapping):  # the unigram kind lists pairs
                vocabulary = {token: i for i, (token, _) in enumerate(vocabulary)}
            added = record.get("added_tokens") or ()
            self._pieces = {int(i): str(token) for token, i in vocabulary.items()}
            self._added = {int(a["id"]): str(a["content"]) for a in added}
            self._special = {int(a["id"]) for a in added if a.get("special")}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CallError(f"this is not the text of a {FILE}: {error!r}") from error
        kinds = set(_kinds(record.get("decoder")))
        self._of_bytes = "ByteLevel" in kinds
        blanks = (record.get("pre_tokenizer") or {}).get("type") == "WhitespaceSplit"
        self._of_words = model.get("type") == "WordLevel" and blanks and not kinds
        if not (self._of_bytes or self._of_words) and not kinds & {"Metaspace", "ByteFallback", "Replace"}:
            raise CallError(
                f"this runtime does not decode tokens of the kind {sorted(kinds) or 'without decoder'}"
            )
        plain = self._of_bytes and not model.get("merges") and len(self._pieces) <= 256
        self._plain = plain and record.get("normalizer") is None
        self._text = text

    def __len__(self) -> int:
        return len({*self._pieces, *self._added})

    def decode(self, tokens: Iterable[Any], *, special: bool = False) -> str:
        """The text of one sample's tokens. Bytes that are no UTF-8 become �.

        special: write the special tokens (the text's end) out, too
        """
        text = self.to_bytes(tokens, special=special).decode("utf-8", errors="replace")
        return text if self._of_bytes else text.removeprefix(" ")

    def to_bytes(self, tokens: Iterable[Any], *, special: bool = False) -> bytes:
        """The bytes that tokens stand for, which need not be whole characters: a window may begin inside
        one."""
        out = bytearray()
        for token in map(int, tokens):
            if self._of_words and out and (special or token not in self._special):
                out += b" "
            if token in self._added:
                if special or token not in self._special:
                    out += self._added[token].encode()
            elif token in self._pieces:
                out += self._bytes(self._pieces[token])
        return bytes(out)

    def _bytes(self, piece: str) -> bytes:
        if self._of_words:
            return piece.encode()
        if self._of_bytes:
            return bytes(_values()[letter] for letter in piece)
        byte = _BYTE.fullmatch(piece)
        return bytes([int(byte[1], 16)]) if byte else piece.replace("\u2581", " ").encode()

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`, without any put around it.

        Raises CallError for a word that is none of the tokens, and where `tokenizers` would be needed and is
        not installed.
        """
        if self._of_words:
            numbers = {piece: i for i, piece in self._pieces.items() if i not in self._special}
            for word in text.split():
                if word not in numbers:
                    raise CallError(f"the word '{word}' is unknown to this model; {nearest(word, numbers)}")
            return [numbers[word] for word in text.split()]
        if self._plain:
            by_value = {piece: i for i, piece in self._pieces.items()}
            return [by_value[letters()[b]] for b in text.encode() if letters()[b] in by_value]
        try:
            import tokenizers
        except ImportError as error:
            raise CallError(
                "text is cut into these tokens by the package 'tokenizers', which is not installed: "
                "pip install tokenizers"
            ) from error
        made = tokenizers.Tokenizer.from_str(
            self._text if isinstance(self._text, str) else self._text.decode()
        )
        return list(made.encode(text, add_special_tokens=False).ids)


def tokenizer_of(bundle: Any) -> Tokenizer:
    """The tokenizer that lies in a bundle.

    Raises CallError where there is none, BundleError where it is not the one that the manifest names.

    >>> tokenizer_of(bundle).decode(bundle.sample(1, seed=0)[0])  # doctest: +SKIP
    """
    if FILE not in bundle.manifest.files:
        raise CallError(f"{bundle!r} has no tokenizer: its samples stay numbers")
    return Tokenizer(read_member(bundle.path, bundle.manifest, FILE))


def _kinds(decoder: Any) -> Iterator[str]:
    """Names of a decoder and of those that it is a sequence of."""
    if isinstance(decoder, Mapping):
        yield str(decoder.get("type"))
        for inner in decoder.get("decoders", ()):
            yield from _kinds(inner)


@cache
def letters() -> tuple[str, ...]:
    """How the format writes each byte: printable ones as themselves, the others from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return tuple(chr(b) if b in plain else chr(next(others)) for b in range(256))


@cache
def _values() -> dict[str, int]:
    return {letter: b for b, letter in enumerate(letters())}

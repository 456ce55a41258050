"""Tokens to text and back, by a `tokenizer.json`: decoding with nothing but the standard library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from niwaki_runtime.errors import CallError, first_line, nearest
from niwaki_runtime.token_decoders import Broken, is_byte, letters, rules_of

__all__ = [
    "FILE",
    "Tokenizer",
    "extends",
    "letters",
    "package_tokenizer",
    "tokenizer_of",
    "with_special",
]

FILE = "tokenizer.json"
"""Where a bundle keeps it."""

_MODELS = ("BPE", "Unigram", "WordLevel", "WordPiece")
_WORDS = {"WhitespaceSplit": re.compile(r"\S+"), "Whitespace": re.compile(r"\w+|[^\w\s]+")}
"""How pre-tokenizers cut a text into words: between blanks; and between marks, too."""
_FLAGS = ("lstrip", "rstrip", "single_word")
"""Flags of added tokens that change where they are found in a text."""
_PLAIN_MODEL = ("unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback", "merges")
"""Settings that a model of plain bytes has none of."""


class Tokenizer:
    """What a `tokenizer.json` says (the format of the package `tokenizers`).

    Decoding needs no package: vocabularies of every model, and the decoders in
    `niwaki_runtime.token_decoders`; without a decoder pieces are joined by blanks. Encoding needs none where
    every token is a byte (added ones beside them), or a word; else `tokenizers` does it.
    Raises CallError where the text is none, or names a model or a decoder that is not known here.
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
            # The package knows special tokens by their text, whatever number they have.
            self._special = {str(a["content"]) for a in added if a.get("special")}
            kind = model.get("type")
            pre = (record.get("pre_tokenizer") or {}).get("type")
            level = record.get("pre_tokenizer") if pre == "ByteLevel" else None
            whole = (
                record.get("normalizer") is None
                and not any(a.get(f) for a in added for f in _FLAGS)
                and len({bool(a.get("normalized")) for a in added}) < 2
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CallError(f"this is not the text of a {FILE}: {first_line(error)}") from error
        if kind is not None and kind not in _MODELS:
            raise CallError(
                f"this runtime knows no vocabulary of the kind '{kind}', only {', '.join(_MODELS)}"
            )
        rules = rules_of(record.get("decoder"))
        self._rules = [rule for _, rule in rules]
        self._of_bytes = [name for name, _ in rules] == ["ByteLevel"]
        self._words = _WORDS.get(str(pre)) if kind == "WordLevel" else None
        self._unknown = model.get("unk_token")
        self._of_words = (
            self._words is not None and not rules and whole and self._special.issuperset(self._added.values())
        )
        self._plain = (
            kind in (None, "BPE")
            and not any(model.get(name) for name in _PLAIN_MODEL)
            and level is not None
            and not level.get("add_prefix_space", True)
            and whole
        )
        self._text = text

    def __len__(self) -> int:
        return len({*self._pieces, *self._added})

    @property
    def largest(self) -> int:
        """The largest number that is a token."""
        return max((*self._pieces, *self._added), default=-1)

    def settled(self, tokens: Sequence[Any]) -> str:
        """The beginning of a text that stays, whatever tokens follow: a character may still be unfinished."""
        known = list(map(int, tokens))
        while known and is_byte(self._pieces.get(known[-1], "")):
            known.pop()  # a run of such bytes is read as a whole
        return self.decode(known).rstrip("\ufffd")

    def decode(self, tokens: Iterable[Any], *, special: bool = False) -> str:
        """The text of one sample's tokens. Bytes that are no UTF-8 become �, numbers that are no token
        nothing.

        special: write the special tokens (the text's end) out, too
        """
        return self._decoded(tokens, special, "replace")

    def to_bytes(self, tokens: Iterable[Any], *, special: bool = False) -> bytes:
        """The bytes that tokens stand for, which need not be whole characters: a window may begin inside
        one."""
        return self._decoded(tokens, special, "surrogateescape").encode("utf-8", "surrogateescape")

    def _decoded(self, tokens: Iterable[Any], special: bool, broken: Broken) -> str:
        found = (self._added.get(t, self._pieces.get(t)) for t in map(int, tokens))
        pieces = [p for p in found if p is not None and (special or p not in self._special)]
        if not self._rules:
            return " ".join(pieces)
        for rule in self._rules:
            pieces = rule(pieces, broken)
        return "".join(pieces)

    def number_of(self, content: str) -> int | None:
        """The number of an added token (`<|end|>`) by its text; None where there is none."""
        return next((i for i, known in self._added.items() if known == content), None)

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """The tokens of `text`, without any put around it.

        special: whether what is written like a special token is one; text of strangers must not end a turn
                 or begin another, and is then cut like any other
        A word that is none of the tokens becomes the one of unknown words.
        Raises CallError for such a word where there is no token for it but the one of the number 0, which
        says nothing; and where `tokenizers` would be needed and is not installed, or does not read this file.
        """
        if self._words is not None and self._of_words:
            numbers = {p: i for i, p in self._pieces.items() if p not in self._special}
            unknown = next((i for i, p in self._pieces.items() if p == self._unknown), 0)
            words = self.words(text)
            for word in words if not unknown else ():
                if word not in numbers:
                    raise CallError(f"the word '{word}' is unknown to this model; {nearest(word, numbers)}")
            return [numbers.get(word, unknown) for word in words]
        if self._plain:
            return self._bytes_of(text, special)
        with _refusing(f"the package 'tokenizers' does not cut this text by this {FILE}"):
            cutting = self._package if special else self._package_of_strangers
            return list(cutting.encode(text, add_special_tokens=False).ids)

    def words(self, text: str) -> list[str]:
        """Where every token is a word: those of a text, known or not."""
        return [] if self._words is None else self._words.findall(text)

    @cached_property
    def _package(self) -> Any:
        text = self._text if isinstance(self._text, str) else self._text.decode()
        return package_tokenizer(text, f"this {FILE}")

    @cached_property
    def _package_of_strangers(self) -> Any:
        """The same, to which special tokens are text like any other."""
        text = self._text if isinstance(self._text, str) else self._text.decode()
        made = package_tokenizer(text, f"this {FILE}")
        made.encode_special_tokens = True
        return made

    def _bytes_of(self, text: str, special: bool) -> list[int]:
        """Bytes as tokens, added tokens where they are found: the longest of those that begin first."""
        numbers = {piece: i for i, piece in self._pieces.items()}
        known = self._added.items()
        named = {content: i for i, content in known if content and (special or content not in self._special)}
        longest = sorted(named, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, longest))})", text) if named else [text]
        tokens: list[int] = []
        for i, part in enumerate(parts):
            if i % 2:
                tokens.append(named[part])
                continue
            written = (letters()[b] for b in part.encode("utf-8", "replace"))
            tokens += [numbers[letter] for letter in written if letter in numbers]
        return tokens


def with_special(text: str, contents: Sequence[str]) -> str:
    """A tokenizer.json with special tokens beside its own, in the next free numbers; those that it has stay.

    Raises CallError where one is there as a token that is not special: any text could then spell it.
    """
    known = Tokenizer(text)
    record = json.loads(text)
    added = list(record.get("added_tokens") or ())
    next_ = known.largest + 1
    for content in contents:
        there = next((a for a in added if a["content"] == content), None)
        if there is None:
            flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
            added.append({"id": next_, "content": content, **flags, "special": True})
            next_ += 1
        elif not there.get("special"):
            raise CallError(f"the tokenizer has '{content}' as a token that is not special")
    return json.dumps({**record, "added_tokens": added}, ensure_ascii=False)


def extends(longer: str, text: str) -> bool:
    """Whether a tokenizer.json cuts text as another one does, and only has special tokens beyond it."""

    def cutting(record: Mapping[str, Any]) -> Any:
        return [record.get(name) for name in ("normalizer", "pre_tokenizer", "model")]

    new, old = json.loads(longer), json.loads(text)
    numbers = {a["content"]: a["id"] for a in new.get("added_tokens") or ()}
    kept = all(numbers.get(a["content"]) == a["id"] for a in old.get("added_tokens") or ())
    return kept and cutting(new) == cutting(old)


def package_tokenizer(text: str, called: str) -> Any:
    """A `tokenizer.json` as the package `tokenizers` reads it; without truncation and padding, which are
    settings of a batch and not of a text.

    called: how messages name it
    Raises CallError where the package is not installed, or does not read this.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise CallError(
            "text is cut into these tokens by the package 'tokenizers', which is not installed: "
            "pip install tokenizers"
        ) from error
    with _refusing(f"{called} cannot be read"):
        made = tokenizers.Tokenizer.from_str(text)
        made.no_truncation()
        made.no_padding()
    return made


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """CallError for whatever the package raises: plain exceptions, and panics, which are none."""
    try:
        yield
    except CallError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CallError(f"{what}: {first_line(error)}") from error


def tokenizer_of(bundle: Any) -> Tokenizer:
    """The tokenizer that lies in a bundle.

    Raises CallError where there is none, BundleError where it is not the one that the manifest names.

    >>> tokenizer_of(bundle).decode(bundle.sample(1, seed=0)[0])  # doctest: +SKIP
    """
    from niwaki_runtime.member import read_member  # which knows manifests, and those what steers by texts

    if FILE not in bundle.manifest.files:
        raise CallError(f"{bundle!r} has no tokenizer: its samples stay numbers")
    return Tokenizer(read_member(bundle.path, bundle.manifest, FILE))

"""Decoders of the format `tokenizer.json`: from pieces of the vocabulary to text, one rule after another.

A rule takes the pieces of one sample and returns new ones; their text is what is left, joined. Each does
what the rule of the same name in the package `tokenizers` does. Bytes that are no character are marked, or
kept as surrogates (`surrogateescape`), from which they can be had back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

from niwaki_runtime.errors import CallError, first_line

__all__ = ["DECODERS", "Broken", "Rule", "is_byte", "letters", "rules_of"]

Broken = Literal["replace", "surrogateescape"]
"""What becomes of bytes that are no character."""
Rule = Callable[[list[str], Broken], list[str]]

_BYTE = re.compile(r"<0x(?:[0-9A-Fa-f]{2}|\+[0-9A-Fa-f])>")
_CLEANED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip
"""What the rules with `cleanup` write in another way."""


def rules_of(decoder: Any) -> list[tuple[str, Rule]]:
    """The rules of a decoder's record in turn, with their names; of none where pieces are joined by blanks.

    Raises CallError, by name, for a rule or a setting that is not known here.
    """
    if decoder is None:
        return []
    if not isinstance(decoder, Mapping):
        raise CallError(f"the tokenizer's decoder is no record but a {type(decoder).__name__}")
    kind, settings = str(decoder.get("type")), {k: v for k, v in decoder.items() if k != "type"}
    if kind == "Sequence":
        inner = settings.get("decoders")
        if not isinstance(inner, list):
            raise CallError("the tokenizer's decoder 'Sequence' lists no decoders")
        return [rule for one in inner for rule in rules_of(one)] or [("Sequence", lambda pieces, _: pieces)]
    if kind not in DECODERS:
        raise CallError(
            f"this runtime has no decoder '{kind}' of tokenizers; known are {', '.join(sorted(DECODERS))}"
        )
    try:
        return [(kind, DECODERS[kind](settings))]
    except (KeyError, TypeError, ValueError) as error:
        raise CallError(f"the tokenizer's decoder '{kind}' cannot be read: {first_line(error)}") from error


@cache
def letters() -> tuple[str, ...]:
    """How the format writes each byte: printable ones as themselves, the others from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return tuple(chr(b) if b in plain else chr(next(others)) for b in range(256))


@cache
def _values() -> dict[str, int]:
    return {letter: b for b, letter in enumerate(letters())}


def _text(settings: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = settings[name] if default is None else settings.get(name, default)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, not {value!r}")
    return value


def _flag(settings: Mapping[str, Any], name: str, default: bool) -> bool:
    value = settings.get(name, default)
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be true or false, not {value!r}")
    return value


def _byte_level(settings: Mapping[str, Any]) -> Rule:
    """Each letter is a byte (`letters`); a piece with other letters stands for itself."""

    def apply(pieces: list[str], broken: Broken) -> list[str]:
        values, out = _values(), bytearray()
        for piece in pieces:
            if all(letter in values for letter in piece):
                out += bytes(values[letter] for letter in piece)
            else:
                out += piece.encode("utf-8", "surrogateescape")
        return [out.decode("utf-8", broken)]

    return apply


def is_byte(piece: str) -> bool:
    """Whether a piece is written as the number of its byte."""
    return _BYTE.fullmatch(piece) is not None


def _byte_fallback(settings: Mapping[str, Any]) -> Rule:
    """Pieces `<0x41>` are bytes; where a run of them is no text, each becomes �."""

    def text_of(run: bytearray, broken: Broken) -> str:
        try:
            return run.decode("utf-8")
        except UnicodeDecodeError:
            return "\ufffd" * len(run) if broken == "replace" else run.decode("utf-8", broken)

    def apply(pieces: list[str], broken: Broken) -> list[str]:
        out, run = [], bytearray()
        for piece in pieces:
            if is_byte(piece):
                run.append(int(piece[3:5], 16))
                continue
            if run:
                out.append(text_of(run, broken))
                run = bytearray()
            out.append(piece)
        return [*out, text_of(run, broken)] if run else out

    return apply


def _metaspace(settings: Mapping[str, Any]) -> Rule:
    """The replacement is a blank, and at the very beginning nothing, unless it is never put there."""
    mark, scheme = _text(settings, "replacement", "▁"), settings.get("prepend_scheme")
    if scheme is None:  # as older files say it
        scheme = "always" if _flag(settings, "add_prefix_space", True) else "never"
    if scheme not in ("always", "first", "never") or len(mark) != 1:
        raise ValueError(f"prepend_scheme {scheme!r} or replacement {mark!r} is not known")
    first = " " if scheme == "never" else ""
    return lambda pieces, _: [p.replace(mark, " " if i else first) for i, p in enumerate(pieces)]


def _replace(settings: Mapping[str, Any]) -> Rule:
    pattern, content = settings["pattern"], _text(settings, "content")
    if not isinstance(pattern, Mapping) or set(pattern) != {"String"}:
        raise ValueError(f"its pattern must be a plain text ('String'), not {pattern!r}")
    old = _text(pattern, "String")
    if not old:
        raise ValueError("its pattern is empty")
    return lambda pieces, _: [piece.replace(old, content) for piece in pieces]


def _strip(settings: Mapping[str, Any]) -> Rule:
    """Takes `content` away from both ends of every piece, `start` and `stop` times at most."""
    letter, start, stop = _text(settings, "content"), settings["start"], settings["stop"]
    if len(letter) != 1 or not all(type(n) is int and n >= 0 for n in (start, stop)):
        raise ValueError(f"content {letter!r}, start {start!r} or stop {stop!r} is not of its kind")

    def cut(piece: str) -> str:
        left = right = 0
        while left < min(start, len(piece)) and piece[left] == letter:
            left += 1
        while right < min(stop, len(piece)) and piece[len(piece) - 1 - right] == letter:
            right += 1
        return piece[left : max(left, len(piece) - right)]

    return lambda pieces, _: [cut(piece) for piece in pieces]


def _word_piece(settings: Mapping[str, Any]) -> Rule:
    """Pieces are words, but those that begin with `prefix` belong to the one before."""
    prefix, clean = _text(settings, "prefix", "##"), _flag(settings, "cleanup", True)

    def apply(pieces: list[str], broken: Broken) -> list[str]:
        out = []
        for i, piece in enumerate(pieces):
            joined = piece.removeprefix(prefix) if piece.startswith(prefix) else f" {piece}"
            out.append(_cleaned(joined if i else piece) if clean else joined if i else piece)
        return out

    return apply


def _bpe(settings: Mapping[str, Any]) -> Rule:
    """`suffix` ends a word: a blank, but at the very end."""
    suffix = _text(settings, "suffix", "</w>")
    if not suffix:
        raise ValueError("its suffix is empty")
    return lambda pieces, _: [
        piece.replace(suffix, " " if i + 1 < len(pieces) else "") for i, piece in enumerate(pieces)
    ]


def _ctc(settings: Mapping[str, Any]) -> Rule:
    """Repeated pieces count once, `pad_token` is nothing, `word_delimiter_token` a blank."""
    pad, blank = _text(settings, "pad_token", "<pad>"), _text(settings, "word_delimiter_token", "|")
    clean = _flag(settings, "cleanup", True)
    if not pad or not blank:
        raise ValueError("its pad_token or word_delimiter_token is empty")

    def apply(pieces: list[str], broken: Broken) -> list[str]:
        once = [p for i, p in enumerate(pieces) if not i or p != pieces[i - 1]]
        made = [p.replace(pad, "") for p in once]
        return [p for p in ((_cleaned(p).replace(blank, " ") if clean else p) for p in made) if p]

    return apply


def _cleaned(text: str) -> str:
    for old, new in _CLEANED:
        text = text.replace(old, new)
    return text


def _fuse(settings: Mapping[str, Any]) -> Rule:
    return lambda pieces, _: ["".join(pieces)]


DECODERS: Mapping[str, Callable[[Mapping[str, Any]], Rule]] = {
    "BPEDecoder": _bpe,
    "ByteFallback": _byte_fallback,
    "ByteLevel": _byte_level,
    "CTC": _ctc,
    "Fuse": _fuse,
    "Metaspace": _metaspace,
    "Replace": _replace,
    "Strip": _strip,
    "WordPiece": _word_piece,
}
"""Rules by their names in the format → what makes one of its settings."""

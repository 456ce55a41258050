"""A model's tokenizer as one `tokenizer.json`, with what its own library adds to it from the files beside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from niwaki.adapters.language.files import fetch, package, quiet
from niwaki.core.contract import CallError, NiwakiError, first_line
from niwaki.core.paths import expanded
from niwaki.core.store import read_json
from niwaki_runtime.tokenizer import Tokenizer, package_tokenizer

__all__ = ["Words", "read_words"]

_NAMES = ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
"""Files that say more than tokenizer.json does."""
_TRIED = ("", "a", " two  words, it 's .", "Grüße, 日本語 🌲\n\tx", "the end .")
"""Texts that ours and the library's own tokenizer must cut and write alike."""
_CLEANED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
    (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip
"""What `clean_up_tokenization_spaces` of transformers writes in another way, in turn."""


@dataclass(frozen=True)
class Words:
    """A tokenizer.

    text:   its tokenizer.json; empty where there is none
    before: tokens that it puts before a text
    after:  and behind it
    """

    text: str = ""
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    @property
    def highest(self) -> int:
        """The largest number of a token; −1 where there is no tokenizer."""
        if not self.text:
            return -1
        record = json.loads(self.text)
        vocabulary = record["model"]["vocab"]
        numbers = range(len(vocabulary)) if isinstance(vocabulary, list) else vocabulary.values()
        return max([-1, *numbers, *(a["id"] for a in record.get("added_tokens") or ())])


def read_words(source: Any) -> Words:
    """The tokenizer of a model.

    source: a folder, a hub name, a tokenizer.json, its text, or a tokenizer of `tokenizers` or
            `transformers`; a network has none
    A folder's further files (added tokens, which tokens stand before a text, how blanks are treated) are read
    by transformers itself, and what it makes of them is written into the tokenizer.json.
    Raises CallError for what is no tokenizer, and for settings that tokenizer.json cannot hold.
    """
    if hasattr(source, "backend_tokenizer"):
        return _of_library(source)
    if hasattr(source, "to_str"):
        return _of_text(str(source.to_str()))
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return _of_text(source)
    if not isinstance(source, str | Path):
        if hasattr(source, "parameters"):
            return Words()  # a network knows no tokenizer
        raise CallError(f"a {type(source).__name__} is no tokenizer; give a tokenizer.json")
    path = expanded(source)
    if path.is_file():
        read_json(path)  # says what is wrong with it
        return _of_text(path.read_text(encoding="utf-8"))
    folder = path if path.is_dir() else fetch(str(source))
    own = folder / "tokenizer.json"
    if own.is_file() and not any((folder / name).exists() for name in _NAMES):
        return read_words(own)
    if not own.is_file() and not any((folder / n).exists() for n in ("vocab.json", "tokenizer.model")):
        return Words()
    transformers = package("transformers")
    with quiet(transformers):
        try:
            made = transformers.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # a tokenizer may want any of several packages
            raise NiwakiError(
                f"the tokenizer in '{folder}' cannot be read: {first_line(error)}; give tokenizer=… a "
                "tokenizer.json that needs no further files"
            ) from error
    return read_words(made)


def _of_text(text: str) -> Words:
    Tokenizer(text)  # says what is not known of it
    made = package_tokenizer(text, "the tokenizer.json")
    plain = made.encode("a", add_special_tokens=False).ids
    return Words(text, *_around(plain, made.encode("a").ids))


def _of_library(made: Any) -> Words:
    """A tokenizer of transformers. Raises CallError where its tokenizer.json alone does something else."""
    inner: Any = getattr(made, "backend_tokenizer", None)
    if not hasattr(inner, "to_str"):
        raise CallError(
            f"a {type(made).__name__} is written in Python; niwaki needs a fast one, that is a tokenizer.json"
        )
    with quiet(package("transformers")):
        record = json.loads(inner.to_str())
        record["truncation"] = record["padding"] = None  # of a batch: none of a text
        if _cleans(made, record):
            record["decoder"] = _cleaning(record.get("decoder"))
        text = json.dumps(record, ensure_ascii=False)
        ours = Tokenizer(text)
        around = _around(list(made("a", add_special_tokens=False)["input_ids"]), list(made("a")["input_ids"]))
        for tried in (*_TRIED, *(str(a["content"]) + " a" for a in record.get("added_tokens") or ())):
            wanted = list(made(tried)["input_ids"])
            found = [*around[0], *ours.encode(tried), *around[1]]
            if found != wanted:
                raise CallError(
                    f"{type(made).__name__} cuts {tried!r} into {wanted}, its tokenizer.json into {found}: a "
                    "setting in tokenizer_config.json has no counterpart there; give tokenizer=… a "
                    "tokenizer.json that holds all"
                )
            written, said = ours.decode(wanted), made.decode(wanted, skip_special_tokens=True)
            if written != said:
                raise CallError(
                    f"{type(made).__name__} writes {wanted} as {said!r}, its tokenizer.json as {written!r}; "
                    "give tokenizer=… a tokenizer.json that holds all"
                )
    return Words(text, *around)


def _cleans(made: Any, record: dict[str, Any]) -> bool:
    """Whether its texts are cleaned up. transformers leaves byte pairs alone, whatever is set."""
    forced = getattr(made, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False)
    return bool(getattr(made, "clean_up_tokenization_spaces", False)) and (
        record["model"].get("type", "BPE") != "BPE" or bool(forced)
    )


def _cleaning(decoder: Any) -> dict[str, Any]:
    """The same decoder, and then transformers' cleaning up."""
    whole = [] if decoder is None else [decoder]
    if decoder is None:  # pieces are joined by blanks
        whole = [{"type": "WordPiece", "prefix": "\0", "cleanup": False}]
    steps = [{"type": "Replace", "pattern": {"String": a}, "content": b} for a, b in _CLEANED]
    return {"type": "Sequence", "decoders": [*whole, {"type": "Fuse"}, *steps]}


def _around(plain: list[int], whole: list[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What stands before and behind the text's own tokens.

    >>> _around([5, 6], [1, 5, 6, 2, 2])
    ((1,), (2, 2))
    """
    for at in range(len(whole) - len(plain) + 1):
        if whole[at : at + len(plain)] == plain:
            return tuple(whole[:at]), tuple(whole[at + len(plain) :])
    raise CallError(f"the tokenizer cuts 'a' into {plain} alone and into {whole} with its special tokens")

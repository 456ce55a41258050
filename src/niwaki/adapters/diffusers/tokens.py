"""A pipeline's tokenizers: kept as the text of their files, read back by their own class. No code is
loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.adapters.diffusers.config import Words
from niwaki.core.contract import CallError, NiwakiError, first_line
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["FILES", "load_tokenizer", "read_files", "tokenize", "write_files"]

FILES = (
    *("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json"),
)
"""What a tokenizer may consist of: tables and settings, nothing that runs."""


def read_files(directory: Path) -> dict[str, str]:
    """The tokenizer's files in `directory`. Raises CallError where there are none."""
    found = {name: (directory / name).read_text() for name in FILES if (directory / name).is_file()}
    if not {"tokenizer.json", "vocab.json"} & found.keys():
        raise CallError(f"{directory} holds no tokenizer (neither tokenizer.json nor vocab.json)")
    return found


def write_files(files: Mapping[str, str], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if name in FILES:  # a record may name any path
            (directory / name).write_text(text)


def tokenize(words: Sequence[Words], prompt: str | Sequence[str]) -> np.ndarray:
    """Tokens of a prompt `(length,)`, or of several `(n, length)`, int64, by each of the tokenizers in turn,
    padded as the pipeline pads them.

    Raises CallError for a prompt that is longer than the text encoders read.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    tokens = np.concatenate([_rows(each, prompts) for each in words], axis=1)
    return tokens[0] if isinstance(prompt, str) else tokens


def _rows(words: Words, prompts: Sequence[str]) -> np.ndarray:
    tokenizer = _tokenizer(words.kind, json.dumps(dict(words.files), sort_keys=True))
    length = words.length or int(tokenizer.model_max_length)
    rows = [tokenizer(p, padding="max_length", max_length=length)["input_ids"] for p in prompts]
    for text, row in zip(prompts, rows, strict=True):
        if len(row) > length:
            raise CallError(
                f"the prompt '{text[:40]}' has {len(row)} tokens, and this model reads {length}; shorten it"
            )
    return np.array(rows, dtype=np.int64)


@lru_cache(maxsize=8)
def _tokenizer(kind: str, files: str) -> Any:
    with scratch_directory() as temporary:
        write_files(json.loads(files), temporary)
        return load_tokenizer(temporary, kind)


def load_tokenizer(directory: Path, kind: str) -> Any:
    """A tokenizer, as transformers reads it from a folder. Raises NiwakiError where it cannot."""
    try:
        import transformers

        return getattr(transformers, kind).from_pretrained(directory, local_files_only=True)
    except ImportError as error:
        raise NiwakiError(f"prompts need transformers: pip install niwaki[hub] ({error})") from error
    except Exception as error:  # a tokenizer of others fails in any way it likes
        raise NiwakiError(f"the tokenizer's files cannot be read: {first_line(error)}") from error

"""A pipeline's tokenizer: kept as the text of its files, read back by CLIP's own class. No code is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.contract import CallError, NiwakiError, first_line
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["FILES", "load_tokenizer", "read_files", "tokenize", "write_files"]

FILES = (
    *("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json"),
)
"""What a CLIP tokenizer may consist of: tables and settings, nothing that runs."""


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


def tokenize(files: Mapping[str, str], prompt: str | Sequence[str]) -> np.ndarray:
    """Tokens of a prompt `(length,)`, or of several `(n, length)`, int64, padded as the pipeline pads them.

    Raises CallError for a prompt that is longer than the text encoder reads.
    """
    tokenizer = _tokenizer(json.dumps(dict(files), sort_keys=True))
    length = int(tokenizer.model_max_length)
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    rows = [tokenizer(p, padding="max_length", max_length=length)["input_ids"] for p in prompts]
    for text, row in zip(prompts, rows, strict=True):
        if len(row) > length:
            raise CallError(
                f"the prompt '{text[:40]}' has {len(row)} tokens, and this model reads {length}; shorten it"
            )
    tokens = np.array(rows, dtype=np.int64)
    return tokens[0] if isinstance(prompt, str) else tokens


@lru_cache(maxsize=4)
def _tokenizer(files: str) -> Any:
    with scratch_directory() as temporary:
        write_files(json.loads(files), temporary)
        return load_tokenizer(temporary)


def load_tokenizer(directory: Path) -> Any:
    """CLIP's tokenizer, as transformers reads it from a folder. Raises NiwakiError where it cannot."""
    try:
        from transformers import CLIPTokenizer

        return CLIPTokenizer.from_pretrained(directory, local_files_only=True)
    except ImportError as error:
        raise NiwakiError(f"prompts need transformers: pip install niwaki[hub] ({error})") from error
    except Exception as error:  # a tokenizer of others fails in any way it likes
        raise NiwakiError(f"the tokenizer's files cannot be read: {first_line(error)}") from error

"""Data that takes long to make is kept in the user's cache under the hash of all it was made from.

Deleting the cache at any time is safe: it is made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from niwaki.core.contract import NiwakiError
from niwaki.core.store import hash_json, read_tensors, write_tensors
from niwaki.data.audit import Finding

__all__ = ["cache_directory", "cached"]


def cache_directory() -> Path:
    """`$NIWAKI_CACHE`, or `~/.cache/niwaki`."""
    return Path(os.environ.get("NIWAKI_CACHE") or Path.home() / ".cache" / "niwaki").expanduser()


def cached(
    kind: str, ingredients: Mapping[str, Any], make: Callable[[], dict[str, Tensor]]
) -> tuple[dict[str, Tensor], list[Finding]]:
    """The tensors that `make` gives, from the cache where it has them.

    ingredients: everything that the result depends on, as JSON; its hash is the file's name
    A damaged file is made again, and a cache that cannot be written is no reason to fail: both are findings.
    """
    path = cache_directory() / "data" / f"{kind}-{hash_json(ingredients)[:24]}.safetensors"
    findings = []
    if path.exists():
        try:
            return read_tensors(path), []
        except NiwakiError:
            findings.append(
                Finding("note", "cache", f"the cached file {path.name} was damaged and has been made again")
            )
    tensors = make()
    try:
        write_tensors(path, tensors)
    except NiwakiError as error:
        findings.append(
            Finding("note", "cache", f"nothing could be cached, so that the next load is as slow: {error}")
        )
    return tensors, findings

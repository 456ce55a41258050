"""Data that takes long to make is kept in the user's cache under the hash of all it was made from.

Deleting the cache at any time is safe: it is made again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.paths import expanded
from niwaki.core.store import hash_json, read_tensors, write_tensors
from niwaki.data.audit import Finding
from niwaki_runtime.unfinished import partial_directory

__all__ = ["cache_directory", "cached", "feature_cache"]


def cache_directory() -> Path:
    """`$NIWAKI_CACHE`, else `niwaki` in `$XDG_CACHE_HOME` or in `~/.cache`.

    Raises CallError where there is no home directory to keep anything in.
    """
    named = os.environ.get("NIWAKI_CACHE")
    if named:
        return expanded(named)
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):  # a relative one is to be ignored (XDG Base Directory Specification)
        return Path(shared) / "niwaki"
    try:
        return Path.home() / ".cache" / "niwaki"
    except RuntimeError:
        raise CallError("there is no home directory to keep things in; let NIWAKI_CACHE name one") from None


def feature_cache(tell: Callable[[str], None]) -> Path | None:
    """Where features of what belongs to no run are kept; None without a home directory. A cache that cannot
    be written is no reason to fail, but it is told."""
    try:
        path = cache_directory() / "features"
    except CallError as error:
        tell(f"nothing is kept for the next call: {error}")
        return None
    try:
        path.mkdir(parents=True, exist_ok=True)
        with partial_directory(path, ".trial."):
            pass
    except OSError as error:
        tell(f"nothing can be kept in {path} for the next call: {error.strerror or error}")
    return path


def cached(
    kind: str, ingredients: Mapping[str, Any], make: Callable[[], dict[str, Tensor]]
) -> tuple[dict[str, Tensor], list[Finding]]:
    """The tensors that `make` gives, from the cache where it has them.

    ingredients: everything that the result depends on, as JSON; its hash is the file's name
    A damaged file is made again, and a cache that cannot be written is no reason to fail: both are findings.
    """
    findings: list[Finding] = []
    try:
        path = cache_directory() / "data" / f"{kind}-{hash_json(ingredients)[:24]}.safetensors"
    except CallError as error:
        return make(), [Finding("note", "cache", f"nothing could be cached: {error}")]
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

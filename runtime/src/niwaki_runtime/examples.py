"""A few inputs that travel with a bundle, so that it can be timed and checked without data."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from niwaki_runtime.errors import BundleError
from niwaki_runtime.manifest import Manifest
from niwaki_runtime.member import read_member

__all__ = ["FILE", "example_rows", "examples_to_bytes", "read_examples"]

FILE = "examples.npz"


def examples_to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The file's content: one array `(rows, *shape)` per input name."""
    file = io.BytesIO()
    np.savez_compressed(file, **dict(arrays))  # type: ignore[arg-type]
    return file.getvalue()


def example_rows(path: Path, manifest: Manifest, names: Iterable[str], n: int) -> dict[str, np.ndarray]:
    """n rows of those of `names` that the bundle has examples of, from the beginning again where they end."""
    if not manifest.examples:
        return {}
    arrays = read_examples(path, manifest)
    return {name: arrays[name][np.arange(n) % len(arrays[name])] for name in names if name in arrays}


def read_examples(path: Path, manifest: Manifest) -> dict[str, np.ndarray]:
    """The arrays by input name. Raises BundleError where the file is not what was written."""
    data = read_member(path, manifest, manifest.examples)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # damaged bytes reach many parsers
        raise BundleError(f"{manifest.examples} in {path} is not a whole npz file: {error}") from error

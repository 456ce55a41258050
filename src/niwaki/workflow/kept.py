"""The samples that a run keeps: `samples.npz`."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.contract import NiwakiError
from niwaki.core.store import write_bytes

__all__ = ["read_samples", "write_samples"]


def write_samples(path: Path, **arrays: np.ndarray | None) -> None:
    """`samples.npz`: `before` and `after` `(n, *shape)` float32 of the same seeds, `labels` `(n,)`, and of
    each sample after the `nearest` training sample."""
    file = io.BytesIO()
    kept: dict[str, Any] = {k: v for k, v in arrays.items() if v is not None}
    np.savez_compressed(file, **kept)
    write_bytes(path, file.getvalue())


def read_samples(path: Path) -> dict[str, np.ndarray]:
    """The arrays of `samples.npz`. Raises NiwakiError where the file is broken."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {k: file[k] for k in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise NiwakiError(f"{path} cannot be read ({error}); delete it and run again") from error

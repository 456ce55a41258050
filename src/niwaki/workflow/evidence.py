"""Evidence on disk: what a judge's questions brought, kept so that a model need not be asked again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.array_files import npz_bytes, read_array_file
from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.store import write_bytes
from niwaki.evaluation.judges import Evidence

__all__ = ["read_arrays", "read_evidence", "write_arrays"]


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray | None]) -> None:
    """An `.npz` of all that is not None, whole or not at all."""
    write_bytes(path, npz_bytes(**{k: v for k, v in arrays.items() if v is not None}))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` that a run keeps. Raises NiwakiError where the file is broken."""
    try:
        return read_array_file(path)
    except CallError as error:
        raise NiwakiError(f"{error}; delete it and run again") from error


def read_evidence(path: Path, record: Mapping[str, Any]) -> Evidence:
    """Evidence from its arrays at `path` and what the evaluation's record says of it."""
    return Evidence(
        str(record["judge"]),
        str(record["split"]),
        int(record["n"]),
        int(record["seed"]),
        read_arrays(path),
        dict(record.get("facts", {})),
    )

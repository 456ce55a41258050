"""Samples that came after a data set was made, joined to what its source reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from niwaki.core.array_files import read_array_file
from niwaki.core.contract import CallError, ValueSpec
from niwaki.core.paths import expanded
from niwaki.data.audit import Finding
from niwaki.data.config import Pool
from niwaki.data.splitting import by_hash, hash_samples

__all__ = ["append_additions"]


def append_additions(pool: Pool, files: Sequence[str], fractions: Sequence[float], seed: int) -> None:
    """Join the rows of `.npz` files to a pool: under `x` samples as a model sees them `(n, *shape)`, float32
    in the data's range or tokens, under `class` their classes `(n,)`, and other paired columns by their
    names. A sample's split follows from its bytes, so that those that were there keep theirs.

    Raises CallError for a file without samples, of another shape or range, or without a column that the data
    have.
    """
    for file in files:
        found = read_array_file(expanded(file), called=f"data.additions '{file}'")
        if "x" not in found:
            raise CallError(f"data.additions '{file}' holds no samples: no array is called x")
        n = len(found["x"])
        assignment = None
        for name, column in pool.columns.items():
            if not column.paired:
                continue
            if name not in found:
                raise CallError(
                    f"data.additions '{file}' holds no '{name}', which the data '{pool.name}' have of every "
                    f"sample; give it one row for each of the {n}"
                )
            rows = _stored(found[name], column.spec, column.data, file, name)
            if len(rows) != n:
                raise CallError(f"data.additions '{file}': '{name}' has {len(rows)} rows, and 'x' has {n}")
            if name == "x" and pool.assignment is not None:
                assignment = by_hash(hash_samples(rows), fractions, seed)
            pool.columns[name] = replace(column, data=torch.cat([column.data, rows]))
        pool.attributes = {
            name: torch.cat([value, torch.full((n, *value.shape[1:]), -1, dtype=value.dtype)])
            for name, value in pool.attributes.items()
        }
        if pool.assignment is not None and assignment is not None:
            pool.assignment = np.concatenate([pool.assignment, assignment])
        if pool.item_names:
            pool.item_names += [f"{Path(file).name}:{k}" for k in range(n)]
        pool.findings.append(Finding("note", "additions", f"{n} samples of '{Path(file).name}' were added"))


def _stored(rows: np.ndarray, spec: ValueSpec, like: Tensor, file: str, name: str) -> Tensor:
    """As the pool stores them."""
    if tuple(rows.shape[1:]) != tuple(spec.shape):
        raise CallError(
            f"data.additions '{file}': '{name}' is of shape {tuple(rows.shape[1:])}, and the data are of "
            f"{tuple(spec.shape)}"
        )
    x = torch.from_numpy(np.ascontiguousarray(rows))
    if spec.is_tokens:
        if rows.dtype.kind not in "iu" or (len(rows) and not 0 <= rows.min() <= rows.max() < spec.levels):
            raise CallError(f"data.additions '{file}': '{name}' must be whole numbers 0 … {spec.levels - 1}")
        return x.to(like.dtype)
    x = x.float()
    slack = 1e-3 * (spec.high - spec.low) if np.isfinite(spec.high - spec.low) else 0.0
    if (
        len(x)
        and np.isfinite(slack)
        and (float(x.min()) < spec.low - slack or float(x.max()) > spec.high + slack)
    ):
        raise CallError(
            f"data.additions '{file}': '{name}' has values {float(x.min()):g} … {float(x.max()):g}, outside "
            f"{spec.low:g} … {spec.high:g}"
        )
    if like.is_floating_point():
        return x.to(like.dtype)
    steps = (x - spec.low) / (spec.high - spec.low) * (spec.levels - 1)
    return steps.round().clamp(0, spec.levels - 1).to(like.dtype)

"""How judges ask a model: exact float32 arithmetic, results on the host, and the rows that go with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from niwaki.core.contract import Runner
from niwaki.core.store import hash_bytes, hash_json
from niwaki.data import Dataset, Split
from niwaki.evaluation.equivalence.margins import Margin
from niwaki.evaluation.judges.base import Evidence
from niwaki.evaluation.statistics.arrays import exact_matmul

__all__ = [
    "exactly",
    "first_rows",
    "margin_key",
    "margins_from_json",
    "margins_to_json",
    "results",
    "where",
]


@contextmanager
def exactly() -> Iterator[None]:
    """float32 that is float32: TF32 would put the GPU's rounding into the pairs that a loss is measured
    on."""
    with torch.backends.cudnn.flags(allow_tf32=False), exact_matmul():
        yield


def results(
    runner: Runner,
    program: str,
    n: int,
    seed: int,
    inputs: Mapping[str, np.ndarray],
    on_progress: Callable[[int, int], None] | None = None,
    *,
    start: int = 0,
) -> np.ndarray:
    """What a program makes of the n rows from `start` on, on the host: float32, or int64 where they are
    tokens."""
    with exactly():
        made = runner.run(program, n, seed=seed, inputs=dict(inputs), start=start, progress=on_progress)
    array = np.asarray(runner.backend().numpy(made))
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array.astype(np.int64)


def where(runner: Runner) -> dict[str, Any]:
    """Facts of the runner that belong to evidence."""
    return {"engine": str(getattr(runner, "engine", "torch"))}


def first_rows(split: Split, column: str, n: int) -> np.ndarray:
    """The first n values of a column (splits come shuffled), as a model sees them."""
    column_ = split.column(column)
    index = torch.arange(min(n, len(column_)), device=column_.data.device)
    return column_.values(index).cpu().numpy()


def margin_key(evidence: Evidence, dataset: Dataset, n: int, method: str) -> str:
    """Hash of all that margins follow from: the evidence itself, the data, the size and way of the test."""
    seen = {
        name: [str(a.dtype), list(a.shape), hash_bytes(np.ascontiguousarray(a).tobytes())]
        for name, a in evidence.arrays.items()
    }
    return hash_json([evidence.judge, evidence.split, evidence.seed, dataset.fingerprint, n, method, seen])


def margins_to_json(margins: Mapping[str, Margin]) -> dict[str, dict[str, Any]]:
    return {axis: margin.to_json() for axis, margin in margins.items()}


def margins_from_json(record: Mapping[str, Any]) -> dict[str, Margin]:
    return {axis: Margin.from_json(margin) for axis, margin in record.items()}

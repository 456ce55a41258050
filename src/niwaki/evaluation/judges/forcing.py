"""Real tokens read by a model, each after the real ones before it (teacher forcing)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from niwaki.core.contract import CallError, Runner
from niwaki.data import Dataset
from niwaki.data.inputs import make_inputs
from niwaki.evaluation.judges.running import exactly
from niwaki_runtime.programs import SAMPLING
from niwaki_runtime.specs import resolve

__all__ = ["forced_windows"]

_HELD = 1 << 24  # log-probabilities in memory at a time


def forced_windows(
    runner: Runner,
    dataset: Dataset,
    split: str,
    tokens: np.ndarray,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The first rows of a split `(b, length)` and log p of every token at every place `(b, length, V)`, a few
    rows at a time.

    tokens: those rows `(n, length)`
    Raises CallError for a class that is no column of the data, and a sampler that reads no real tokens.
    """
    program, n = runner.program(SAMPLING), len(tokens)
    inputs = make_inputs(runner, SAMPLING, n, dataset.split(split))
    for name, spec in program.inputs.items():
        if spec.is_label and name not in inputs:
            raise CallError(
                f"the model asks for '{name}', and the data '{dataset.name}' do not say which each "
                f"sample has; name its column with data.columns.{name}"
            )
    rows = resolve(program.inputs, inputs, 0, n)
    graphs, backend = runner.callable_graphs(), runner.backend()
    step = max(1, min(64, _HELD // (tokens.shape[1] * program.output.levels)))
    with runner.running(), exactly():
        for at in range(0, n, step):
            part = tokens[at : at + step]
            asked = {k: backend.asarray(v[at : at + step]) for k, v in rows.items()}
            log_p = program.sampler.forced(graphs, part, backend, asked)
            if log_p is None:
                raise CallError(f"real samples cannot be read with a sampler '{program.sampler.kind}'")
            yield part, log_p
            if on_progress is not None:
                on_progress(at + len(part), n)

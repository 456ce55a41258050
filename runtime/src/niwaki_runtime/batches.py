"""One batch of samples that have nothing in common but the program: each has its seed, number and inputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import Runner, _rows
from niwaki_runtime.samplers import MixedNoise
from niwaki_runtime.samplers.decoding import Decoded, made_of
from niwaki_runtime.steering import steer_from
from niwaki_runtime.watermark.marking import Watermark

__all__ = ["alike", "run_batch"]


def run_batch(
    runner: Runner,
    program: str,
    samples: Sequence[tuple[int, int]],
    inputs: Mapping[str, np.ndarray],
    *,
    size: int = 0,
    watch: Callable[[Decoded], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    watermark: Watermark | None = None,
    **overrides: Any,
) -> np.ndarray:
    """The samples `(n, *output.shape)`, in one batch. Sample (s, i) is sample i of seed s of `Runner.run`, up
    to the network's own rounding at another batch size.

    samples:   seed and number of each
    inputs:    checked arrays, a row for each (`specs.resolve`)
    size:      rows that the networks are given; the last sample fills up what is missing. 0 is as many as
               there are samples
    watch:     called after every token with what is made, where tokens are made one after another
    progress:  called with (calls done, calls in all)
    watermark: the mark that samples carry
    overrides: as of `Runner.run`
    Raises CallError as that does, and where there are more samples than rows.
    """
    n = len(samples)
    size = size or n
    if not 0 < n <= size:
        raise CallError(f"a batch of {size} rows takes 1 … {size} samples, not {n}")
    overrides, steer = steer_from(overrides, None, runner.files)
    sampler = runner.program(program).sampler.override(**overrides)
    backend, graphs = runner.backend(), runner.callable_graphs()
    rows = {name: backend.asarray(_rows(values, 0, size)) for name, values in inputs.items()}
    spec = runner.program(program).output
    mark = watermark.drawing(sampler, spec) if watermark else None
    noise = MixedNoise.mixed(backend, (*samples, *[samples[-1]] * (size - n)), mark)
    with runner.running():
        if steer is None and watch is None:
            made = sampler(graphs, noise, rows, progress=progress)
        else:
            grown = sampler.growing(graphs, noise, rows, steer, progress=progress)
            keep = 0 if steer is not None else int(getattr(sampler, "keep", 0))
            made = made_of(grown if watch is None else _watched(grown, watch), backend, keep)
    out = np.asarray(backend.numpy(made))[:n]
    out = watermark.embed(out, spec) if watermark else out
    return out.astype(np.float32, copy=False) if out.dtype.kind == "f" else out


def alike(
    runner: Runner,
    program: str,
    samples: Sequence[tuple[int, int]],
    inputs: Mapping[str, np.ndarray],
    **overrides: Any,
) -> list[Hashable]:
    """What samples must have in common to be made in one batch, so that none depends on the others: samples
    of equal keys may be (`Sampler.alike`)."""
    rest, _ = steer_from(overrides, None, runner.files)
    noise = MixedNoise.mixed(runner.backend(), tuple(samples))
    return runner.program(program).sampler.override(**rest).alike(noise, inputs)


def _watched(grown: Iterator[Decoded], watch: Callable[[Decoded], None]) -> Iterator[Decoded]:
    for now in grown:
        watch(now)
        yield now

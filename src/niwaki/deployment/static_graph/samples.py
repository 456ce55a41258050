"""Do converted graphs make the samples that the bundle makes? Same seeds, one at a time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import niwaki_runtime
from niwaki.core.contract import NiwakiError
from niwaki.deployment.static_graph.agreement import agrees, difference, tolerance_of
from niwaki_runtime import Bundle
from niwaki_runtime.manifest import Manifest
from niwaki_runtime.specs import resolve

__all__ = ["SamplesDiffer", "compare_samples"]

_TIMED = 20


class SamplesDiffer(NiwakiError):
    """Converted graphs do not make the samples that the bundle makes."""


def compare_samples(
    bundle: Path,
    manifest: Manifest,
    program: str,
    graphs: Mapping[str, Any],
    name: str,
    *,
    n: int,
    seed: int,
    step: float,
) -> dict[str, Any]:
    """Results 0 … n−1 of a seed by `graphs` (called as a sampler calls its own) and by the bundle.

    name: of the format, for sentences; step: of the coarsest quantizer
    Returns `{"engine", "n", "seed", "max", "mean", "tolerance", "passed", "milliseconds"}`, the median of one
    sample. Raises SamplesDiffer where they differ by more than the tolerance.
    """
    reference = niwaki_runtime.load(bundle, engine="auto", precision="exact")
    rows = resolve(manifest.programs[program].inputs, reference.example_inputs(program, n), 0, n)
    wanted = reference.run(program, n, seed=seed, inputs=rows, batch=1)
    here = Bundle(bundle, manifest, dict(graphs), name)
    made = here.run(program, n, seed=seed, inputs=rows, batch=1)
    errors, tolerance = difference(wanted, made), tolerance_of(step)
    if not agrees(errors, step):
        raise SamplesDiffer(
            f"samples of {name} differ from the bundle's by {errors['max']:.2g} (mean {errors['mean']:.2g}), "
            f"more than {tolerance:.2g}; nothing was written"
        )
    first, took = {key: values[:1] for key, values in rows.items()}, []
    for _ in range(_TIMED):
        began = time.perf_counter()
        here.run(program, 1, seed=seed, inputs=first, batch=1)
        took.append(time.perf_counter() - began)
    return {
        "engine": reference.engine, "n": n, "seed": seed, **errors, "tolerance": tolerance, "passed": True,
        "milliseconds": 1e3 * float(np.median(took)),
    }  # fmt: skip

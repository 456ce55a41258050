"""Does the C file make the samples that the bundle makes? Same seeds, every installed engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import niwaki_runtime
from niwaki.core.contract import NiwakiError
from niwaki.deployment.c.compiling import build, compiler, run_samples, stack_bytes
from niwaki.deployment.c.source import Source, c_name
from niwaki.deployment.c.types import C_TYPES
from niwaki.deployment.static_graph.agreement import agrees, difference, tolerance_of
from niwaki_runtime.engines import available
from niwaki_runtime.manifest import Manifest
from niwaki_runtime.specs import ConditionSpec, resolve

__all__ = ["LEAST", "check_source"]

LEAST = 8
"""Results that are compared, however long they take."""
_LONGEST = 20e6  # microseconds that all of them may take beyond that


def check_source(
    source: Source, bundle: Path, manifest: Manifest, program: str, directory: Path, n: int, seed: int
) -> dict[str, Any]:
    """Results 0 … n−1 of a seed from the compiled file in `directory` and from the bundle on each engine.

    Fewer, and at least 8, where n of them would take long.
    Returns `{"compiler", "n", "seed", "engines": {engine: {"max", "mean"}}, "worst", "tolerance", "passed",
    "microseconds", "stack_bytes"}`; `compiler` and `passed` are None where there is no compiler.
    Raises NiwakiError where the file does not compile, or differs by more than the tolerance.
    """
    tolerance = tolerance_of(source.steps)
    report: dict[str, Any] = {"compiler": None, "n": n, "seed": seed, "tolerance": tolerance, "passed": None}
    cc = compiler()
    if cc is None:
        return report
    engines = [name for name in available() if name not in manifest.refused]
    asked = manifest.programs[program]
    first = niwaki_runtime.load(bundle, engine=engines[0], precision="exact", threads=1)
    given = {**_drawn(asked.inputs, n), **first.example_inputs(program, n)}
    rows = resolve(asked.inputs, given, 0, n)
    used = [k for k in asked.sampler.conditions_used() if k in rows]
    conditions, declared = [], []
    for name in used:
        spec = asked.inputs[name]
        values = rows[name].astype(np.int32 if spec.integer else np.float32)
        conditions.append(values.reshape(n, -1))
        kind = C_TYPES[str(values.dtype)]
        declared.append((kind, "" if spec.is_label else "*", conditions[-1].shape[1]))
    made = build(directory, source.prefix, f"{source.prefix}_{c_name(program)}", declared)
    wanted = asked.output
    _, spent = run_samples(made, [(seed, 0)], conditions, wanted.size)
    report["n"] = n = max(min(n, LEAST), min(n, int(_LONGEST / max(spent, 1.0))))
    found, spent = run_samples(made, [(seed, i) for i in range(n)], conditions, wanted.size)
    errors = {}
    for engine in engines:
        runner = niwaki_runtime.load(bundle, engine=engine, precision="exact", threads=1)
        asked_for = {name: values[:n] for name, values in rows.items()}
        reference = runner.run(program, n, seed=seed, inputs=asked_for).reshape(n, -1)
        errors[engine] = difference(reference, found)
    worst = max(e["max"] for e in errors.values())
    mean = max(e["mean"] for e in errors.values())
    # Engines round sums of bytes in their own ways: of a quantized bundle the nearest of them is what counts.
    near = min(errors.values(), key=lambda e: e["mean"]) if source.steps else {"max": worst, "mean": mean}
    passed = agrees(near, source.steps)
    report |= {
        "compiler": Path(cc).name,
        "engines": errors,
        "worst": worst,
        "passed": passed,
        "microseconds": spent,
        "stack_bytes": stack_bytes(directory, source.prefix),
    }
    if not passed:
        raise NiwakiError(
            f"the compiled C file differs from the bundle by {near['max']:.2g} (mean {near['mean']:.2g}), "
            f"more than {tolerance:.2g}; nothing was written, please report the model"
        )
    return report


def _drawn(specs: Mapping[str, ConditionSpec], n: int) -> dict[str, np.ndarray]:
    """Inputs that have no default, drawn: tokens evenly, amounts from a normal distribution within their
    bounds."""
    rng, found = np.random.default_rng(0), {}
    for name, spec in specs.items():
        if spec.default(0, n) is None and spec.integer:
            found[name] = rng.integers(0, spec.size, (n, *spec.shape))
        elif spec.default(0, n) is None:
            values = rng.standard_normal((n, *spec.shape)).astype(np.float32)
            found[name] = values.clip(spec.value.low, spec.value.high)
    return found

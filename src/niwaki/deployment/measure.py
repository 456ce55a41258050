"""Figures of a bundle or a model, taken as `benchmarks/PROTOCOL.md` says: on the engine, with spread."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import niwaki_runtime
from niwaki.core.contract import CallError, GenerativeModel
from niwaki.deployment.baselines import Inputs, compiled_bf16, eager_float32, made_once, torch_threads
from niwaki.deployment.memory import bundle_memory, model_memory
from niwaki.deployment.package import bundle_bytes
from niwaki.deployment.timing import Latency, interleave
from niwaki_runtime.processor import processor_flags
from niwaki_runtime.programs import SAMPLING

__all__ = [
    "BATCHES",
    "Measurement",
    "machine",
    "measure_bundle",
    "measure_model",
    "measure_steadily",
    "measure_together",
]

BATCHES = (1, 16)


@dataclass(frozen=True)
class Measurement:
    """What was measured of one way to sample.

    what:         `bundle`, `torch eager float32`, `torch.compile bf16`
    engine:       `openvino`, `onnxruntime` or `torch`
    precision:    `fast`, `exact`, `float32` or `bf16`
    threads:      CPU threads
    latency:      end-to-end `sample(n)` by n
    bytes:        on disk; None where it was not asked
    memory_bytes: peak of a fresh process above the empty one, at the largest n; None where it was not asked
    evaluations:  network evaluations per sample
    machine:      where
    """

    what: str
    engine: str
    precision: str
    threads: int
    latency: Mapping[int, Latency]
    bytes: int | None = None
    memory_bytes: int | None = None
    evaluations: int = 1
    machine: Mapping[str, Any] = field(default_factory=dict)

    def ms(self, n: int) -> float:
        """Median milliseconds of `sample(n)`."""
        return self.latency[n].median_ms

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "latency": {str(n): latency.to_json() for n, latency in self.latency.items()}}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Measurement:
        latency = {int(n): Latency(**value) for n, value in record["latency"].items()}
        return cls(**{**record, "latency": latency})


def machine() -> dict[str, Any]:
    """The CPU in words: what a figure must be quoted with."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((x.split(":", 1)[1].strip() for x in lines if x.startswith("model name")), name)
    except OSError:
        pass
    flags = processor_flags() or ()
    hardware = [
        f for f in ("avx2", "avx512_vnni", "avx512_bf16", "amx_tile", "asimddp", "bf16") if f in flags
    ]
    return {"cpu": name, "cores": os.cpu_count(), "instructions": hardware, "system": platform.system()}


def measure_together(
    ways: Mapping[str, Callable[[int], Any]],
    *,
    batches: Sequence[int] = BATCHES,
    rounds: int = 30,
    progress: Callable[[int, int], None] | None = None,
    **limits: Any,
) -> dict[str, dict[int, Latency]]:
    """Latencies of several ways to make n samples (`{name: n → samples}`), by name and n, in turns.

    limits: `seconds` for each n, and the `fewest` rounds (`niwaki.deployment.timing.interleave`)
    """
    found: dict[str, dict[int, Latency]] = {name: {} for name in ways}
    for k, n in enumerate(batches):

        def step(done: int, total: int, k: int = k) -> None:
            if progress:
                progress(k * total + done, len(batches) * total)

        calls = {name: partial(way, n) for name, way in ways.items()}
        for name, latency in interleave(calls, rounds=rounds, progress=step, **limits).items():
            found[name][n] = latency
    return found


def measure_steadily(
    ways: Callable[[int], Mapping[str, Callable[[int], Any]]],
    *,
    threads: int,
    batches: Sequence[int] = BATCHES,
    rounds: int = 30,
    progress: Callable[[int, int], None] | None = None,
    again: Callable[[int, int], None] = lambda threads, fewer: None,
) -> tuple[dict[str, dict[int, Latency]], int]:
    """`measure_together`, and where a latency is uncertain all of it again on half the threads, down to one:
    a call on many threads waits for the slowest of them, so that work of others on one core delays it.

    ways:  threads → `{name: n → samples}`
    again: called with the threads that were too uneven and those that are tried next
    Returns the latencies of the steadiest attempt by name and n, and its threads.
    """
    attempts: list[tuple[float, int, dict[str, dict[int, Latency]]]] = []
    while True:
        with torch_threads(threads):
            found = measure_together(ways(threads), batches=batches, rounds=rounds, progress=progress)
        taken = [latency for by_n in found.values() for latency in by_n.values()]
        attempts.append((max(t.high_ms / max(t.low_ms, 1e-9) for t in taken), threads, found))
        if threads == 1 or not any(t.uncertain for t in taken):
            break
        again(threads, threads // 2)
        threads //= 2
    _, threads, found = min(attempts, key=lambda attempt: attempt[0])
    return found, threads


def bundle_way(
    path: Path | str,
    *,
    engine: str = "auto",
    precision: str = "fast",
    threads: int = 2,
    seed: int = 0,
    program: str = SAMPLING,
    inputs: Inputs | None = None,
    **overrides: Any,
) -> Callable[[int], Any]:
    """n → n results of a bundle's program, in one batch; asked for `inputs`, or for its own examples.

    overrides: fields of the sampler
    """
    loaded = niwaki_runtime.load(path, engine=engine, precision=precision, threads=threads)
    made = made_once(inputs or (lambda n: loaded.example_inputs(program, n)))
    return lambda n: loaded.run(program, n, seed=seed, inputs=made(n), batch=n, **overrides)


def measure_bundle(
    path: Path | str,
    *,
    batches: Sequence[int] = BATCHES,
    engine: str = "auto",
    precision: str = "fast",
    threads: int = 2,
    rounds: int = 30,
    memory: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Measurement:
    """Bytes, latency by batch and peak memory of a bundle on an engine."""
    _check(batches, rounds)
    loaded = niwaki_runtime.load(path, engine=engine)
    engine, sampler = loaded.engine, loaded.sampler
    way = bundle_way(path, engine=engine, precision=precision, threads=threads)
    found = measure_together({"bundle": way}, batches=batches, rounds=rounds, progress=progress)["bundle"]
    used = None
    if memory:
        used = bundle_memory(path, engine=engine, precision=precision, threads=threads, n=max(batches))
    return Measurement(
        "bundle",
        engine,
        precision,
        threads,
        found,
        bundle_bytes(path),
        used,
        sampler.evaluations(),
        machine(),
    )


def measure_model(
    model: GenerativeModel,
    *,
    batches: Sequence[int] = BATCHES,
    compiled: bool = False,
    threads: int = 2,
    rounds: int = 30,
    directory: Path | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Measurement:
    """The same of a torch model: float32 eager, or `compiled` in bf16.

    directory: where the model was saved (`save_model`): its bytes and its peak memory are taken there; None
               leaves both out
    """
    _check(batches, rounds)
    with torch_threads(threads):
        way = compiled_bf16(model) if compiled else eager_float32(model)
        found = measure_together({"model": way}, batches=batches, rounds=rounds, progress=progress)["model"]
    return Measurement(
        "torch.compile bf16" if compiled else "torch eager float32",
        "torch",
        "bf16" if compiled else "float32",
        threads,
        found,
        None if directory is None else bundle_bytes(directory),
        None if directory is None or compiled else model_memory(directory, threads=threads, n=max(batches)),
        model.sampler().evaluations(),
        machine(),
    )


def _check(batches: Sequence[int], rounds: int) -> None:
    if not batches or min(batches) < 1:
        raise CallError(f"batches to measure must be at least 1, not {tuple(batches)}")
    if rounds < 1:
        raise CallError(f"a latency needs at least one round, not {rounds}")

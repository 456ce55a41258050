"""What a model can do: programs as plain data, and the one way to run them in torch and on a device alike."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from niwaki_runtime.errors import CallError, nearest
from niwaki_runtime.samplers.base import Array, Backend, Noise, Sampler, sampler_from_json
from niwaki_runtime.samplers.decoding import made_of
from niwaki_runtime.samplers.steer import Steer
from niwaki_runtime.specs import ConditionSpec, Real, ValueSpec, resolve
from niwaki_runtime.steering import steer_from
from niwaki_runtime.streaming import TextStream
from niwaki_runtime.watermark.marking import Watermark

__all__ = [
    "BITS",
    "CODEC",
    "LOG_PROB",
    "SAMPLING",
    "Program",
    "Runner",
    "check_numbers",
    "graphs_of",
    "self_contained",
]

SAMPLING = "sample"
"""The program that every model has: noise in, samples out."""
LOG_PROB = "log_prob"
"""The program that says how probable samples are, in nats."""
CODEC = "codec"
"""The program that says how a model codes samples (`niwaki_runtime.codec`), and in how many bits."""
BITS = ValueSpec("vector", (), "", Real(-math.inf, math.inf), names=("bits",))
"""What that program gives of a sample."""


@dataclass(frozen=True)
class Program:
    """One thing that a model can do (`sample`, `encode`, `log_prob`, `translate_ab` …): plain data.

    sampler: how the result comes about through the graphs
    inputs:  what it is given, by name; matched to columns of the data by name
    output:  what one result is
    """

    sampler: Sampler
    inputs: Mapping[str, ConditionSpec] = field(default_factory=dict)
    output: ValueSpec = field(default_factory=lambda: ValueSpec("vector"))

    def to_json(self) -> dict[str, Any]:
        return {
            "sampler": self.sampler.to_json(),
            "inputs": {name: spec.to_json() for name, spec in self.inputs.items()},
            "output": self.output.to_json(),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Program:
        return cls(
            sampler_from_json(record["sampler"]),
            {name: ConditionSpec.from_json(spec) for name, spec in record["inputs"].items()},
            ValueSpec.from_json(record["output"]),
        )


class Runner(ABC):
    """Whatever runs programs: a model, an adapted model, a bundle on its engine."""

    files: Mapping[str, str] = {}
    """Texts that it ships beside its networks, by name (`tokenizer.json`)."""
    usual_batch: int = 64
    """Samples worked on at once where the caller does not say."""
    even_batches: bool = False
    """Batches of equal size, the surplus of the last one cut off: for engines that compile every new size."""

    @abstractmethod
    def programs(self) -> Mapping[str, Program]:
        """What it can do, by name; `sample` is always among them."""

    @abstractmethod
    def callable_graphs(self) -> Mapping[str, Any]:
        """Its networks by the names that samplers call."""

    @abstractmethod
    def backend(self) -> Backend:
        """Where its arrays live."""

    def running(self) -> AbstractContextManager[Any]:
        """What must hold while a program runs (evaluation mode, no gradients)."""
        return nullcontext()

    def program(self, name: str) -> Program:
        """Raises CallError with the nearest name where it has no such program."""
        known = self.programs()
        if name not in known:
            raise CallError(f"this model has no program '{name}'; {nearest(name, known)}")
        return known[name]

    @property
    def conditions(self) -> Mapping[str, ConditionSpec]:
        """What its samples can be asked to be."""
        return self.program(SAMPLING).inputs

    def run(
        self,
        program: str | Program,
        n: int,
        *,
        seed: int = 0,
        inputs: Any = None,
        start: int = 0,
        batch: int | None = None,
        project: Callable[[Array, float, int], Array] | None = None,
        progress: Callable[[int, int], None] | None = None,
        steer: Steer | None = None,
        watermark: Watermark | None = None,
        **overrides: Any,
    ) -> Array:
        """Results start … start+n−1 of a program and a seed: `(n, *output.shape)`.

        program:   by its name, or any that calls the runner's graphs (`niwaki_runtime.compose`)
        inputs:    a mapping of names to a value for all or an array with one row per sample; a bare value for
                   the only input; None asks for the defaults (classes in turn, by sample index); a function
                   of (start, n) makes one of these
        batch:     samples worked on at once; only the network's own rounding depends on it
        project:   `(x, t, draw) → x` after each solver step of an iterative sampler
        progress:  called with (samples done, samples in all)
        steer:     what allows tokens one after another, and ends samples
        watermark: the mark that samples carry; each has its own whatever the batch
        overrides: fields of the sampler (`steps=10`, `guidance=2.0`, `temperature=0.8` …), or an option that
                   steers texts (`niwaki_runtime.steering`: `stop=["\\n\\n"]`, `regex=…`, `schema=…`)
        Raises CallError for an unknown program, input or option, and for an input that must be given.
        """
        check_numbers(n, start, seed, batch)
        asked = program if isinstance(program, Program) else self.program(program)
        overrides, steer = steer_from(overrides, steer, self.files)
        sampler = asked.sampler.override(**overrides)
        rows = resolve(asked.inputs, inputs, start, n)
        mark = watermark.drawing(sampler, asked.output) if watermark else None
        graphs, backend, size = self.callable_graphs(), self.backend(), self.batch_size(n, batch)
        parts = []
        with self.running():
            for at in range(0, n, size or 1):
                m = size if self.even_batches else min(size, n - at)
                part = {k: backend.asarray(_rows(v, at, m)) for k, v in rows.items()}
                noise = Noise(backend, seed, start + at, m, mark=mark)
                told = _part(progress, at, m, n) if progress else None
                if steer is not None:
                    made = made_of(sampler.growing(graphs, noise, part, steer, progress=told), backend)
                else:
                    made = sampler(graphs, noise, part, project=project, progress=told)
                if watermark is not None:
                    made = backend.asarray(watermark.embed(backend.numpy(made), asked.output))
                parts.append(made[: n - at])
        if not parts:
            return backend.asarray(np.empty((0, *asked.output.shape), asked.output.dtype))
        return parts[0] if len(parts) == 1 else backend.namespace(parts[0]).concat(parts, axis=0)

    def batch_size(self, n: int, batch: int | None = None) -> int:
        """Samples worked on at once when `run` makes n of them."""
        most = batch or self.usual_batch
        return -(-n // max(1, -(-n // most))) if self.even_batches else most

    def sample(self, n: int, *, seed: int = 0, condition: Any = None, **options: Any) -> Array:
        """`run("sample", …)`: samples `(n, *shape)`. `condition` is what it calls its inputs."""
        return self.run(SAMPLING, n, seed=seed, inputs=condition, **options)

    def stream(
        self, program: str = SAMPLING, *, seed: int = 0, inputs: Any = None, **options: Any
    ) -> TextStream:
        """The text of one sample, in pieces as they are made; options as of `run` (`start=3`, `stop="a"` …).

        >>> for piece in bundle.stream(seed=0, temperature=0.8):  # doctest: +SKIP
        ...     print(piece, end="", flush=True)
        Raises CallError as `run` does, and where samples are no texts that are made token after token.
        """
        return TextStream(self, program, seed=seed, inputs=inputs, **options)


def check_numbers(n: int, start: int, seed: int, batch: int | None = None) -> None:
    """Raises CallError for samples that nobody can number."""
    if n < 0 or start < 0 or (batch is not None and batch < 1):
        raise CallError(f"n and start must not be negative and batch at least 1, not {n}, {start}, {batch}")
    if n + start >= 1 << 63:
        raise CallError(f"n and start must lie below 2^63, not {n} and {start}")
    if not -(1 << 63) <= seed < 1 << 63:
        raise CallError(f"seed must fit into 64 bits, and {seed} does not")


def graphs_of(programs: Mapping[str, Program], names: Iterable[str] | None = None) -> tuple[str, ...]:
    """The graphs that programs call (all, or those of `names`), each once."""
    wanted = programs if names is None else names
    return tuple(dict.fromkeys(g for name in wanted for g in programs[name].sampler.graphs_used()))


def self_contained(programs: Mapping[str, Program]) -> tuple[str, ...]:
    """`sample`, and every program that needs no further graph."""
    have = set(programs[SAMPLING].sampler.graphs_used())
    return tuple(name for name, p in programs.items() if set(p.sampler.graphs_used()) <= have)


def _part(progress: Callable[[int, int], None], at: int, size: int, n: int) -> Callable[[int, int], None]:
    """Calls done in one batch as samples done in all."""
    return lambda i, of: progress(min(at + size * i // of, n), n)


def _rows(values: np.ndarray, at: int, size: int) -> np.ndarray:
    """Rows at … at+size−1, the last one repeated where there are fewer."""
    part = values[at : at + size]
    if len(part) == size:
        return part
    return np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])

"""Runners in plain numpy, whose distributions are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from niwaki_runtime.programs import Program, Runner
from niwaki_runtime.samplers import NumpyBackend, OneShot
from niwaki_runtime.specs import ConditionSpec, ValueSpec


class Graph:
    """A function as samplers call it."""

    state = ()

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *inputs: Any) -> Any:
        return self.function(*inputs)


class Toy(Runner):
    """programs: by name; graphs: functions by the names that the programs' samplers call."""

    usual_batch = 128

    def __init__(self, programs: Mapping[str, Program], graphs: Mapping[str, Callable[..., Any]]) -> None:
        self._programs = dict(programs)
        self._graphs = {name: Graph(function) for name, function in graphs.items()}

    def programs(self) -> Mapping[str, Program]:
        return self._programs

    def callable_graphs(self) -> Mapping[str, Any]:
        return self._graphs

    def backend(self) -> Any:
        return NumpyBackend()


def one_shot(
    graph: str, output: ValueSpec, latent: tuple[int, ...] | None = None, **inputs: ValueSpec
) -> Program:
    """`graph(z, *inputs)`, or `graph(*inputs)` without a latent."""
    sampler = OneShot(latent=latent, graph=graph, conditions=tuple(inputs))
    return Program(sampler, {k: ConditionSpec(v) for k, v in inputs.items()}, output)

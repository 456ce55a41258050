"""What sampling calls: networks as views of modules, with their inputs, outputs and state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from niwaki_runtime.samplers import State

__all__ = ["Graph", "Port", "View"]


@dataclass(frozen=True)
class Port:
    """One input of a graph.

    name:       as in the exported graph
    shape:      full shape with the batch axis set to 1
    dtype:      numpy name
    batch_axis: where the samples are counted; None for an input without samples (a position)
    high:       integers are 0 … high−1 (example inputs and calibration stay inside)
    usual:      what a setting is given where nobody says otherwise (a truncation of 1); None for what varies
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    batch_axis: int | None = 0
    high: int = 0
    usual: float | None = None

    def example(self, n: int, seed: int = 0) -> Tensor:
        """Values such as the graph will see: normals, integers in 0 … high−1, or what is usual."""
        shape = tuple(n if axis == self.batch_axis else s for axis, s in enumerate(self.shape))
        if self.usual is not None:
            return torch.from_numpy(np.full(shape, self.usual, self.dtype))
        rng = np.random.default_rng([seed, *self.name.encode()])
        if np.dtype(self.dtype).kind in "iu":
            return torch.from_numpy(rng.integers(0, max(self.high, 1), shape).astype(self.dtype))
        return torch.from_numpy(rng.standard_normal(shape).astype(self.dtype))


class View(nn.Module):
    """A method of a module, as a module: the inverse of a flow, one step of a decoder. Weights are shared."""

    def __init__(self, module: nn.Module, method: str) -> None:
        super().__init__()
        self.module = module
        self.method = method

    def forward(self, *inputs: Tensor) -> Any:
        return getattr(self.module, self.method)(*inputs)


@dataclass(frozen=True)
class Graph:
    """A network that sampling needs: a role-tagged view of modules of the model.

    role:    `generator`, `decoder`, `encoder`, `denoiser`, `prior` …: what it is for, also to compression
    module:  called with the inputs by position, then the state
    inputs:  ports, in order
    outputs: names of the outputs before the state
    state:   what it carries from call to call; state inputs follow `inputs`, state outputs follow `outputs`
    """

    role: str
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[str, ...] = ("output",)
    state: tuple[State, ...] = ()

    def example(self, n: int = 2, seed: int = 0) -> tuple[Tensor, ...]:
        """Inputs to trace, check and export the graph with, state included; on the module's device."""
        values = [port.example(n, seed) for port in self.inputs]
        values += [torch.from_numpy(s.zeros(n)) for s in self.state]
        first = next(self.module.parameters(), None)
        return tuple(values if first is None else [v.to(first.device) for v in values])

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.inputs) + tuple(s.input for s in self.state)

    @property
    def output_names(self) -> tuple[str, ...]:
        return self.outputs + tuple(s.output for s in self.state)

    def __call__(self, *inputs: Tensor) -> Any:
        return self.module(*inputs)

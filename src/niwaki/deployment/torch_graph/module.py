"""A bundle's graph as a torch module, computed operator by operator: what torch's exporters take."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from niwaki.core.contract import NiwakiError
from niwaki.deployment.static_graph.network import Network
from niwaki.deployment.torch_graph import movement, products, rounding  # noqa: F401  they enter operators
from niwaki.deployment.torch_graph.operators import FIRST_ALONE, OPERATORS, Given

__all__ = ["GraphModule", "weights_on_int8"]

_OPS = torch.ops.quantized_decomposed


class GraphModule(nn.Module):
    """forward: the graph's inputs in the order of its names, for one sample → its outputs.

    floats: names of weights on integers that are held as the numbers that they mean
    held:   by name, the buffer that a constant is in

    Raises NiwakiError, which names it, for an operator that is not among `OPERATORS`.
    """

    def __init__(self, network: Network, floats: Collection[str] = ()) -> None:
        super().__init__()
        self.network = network
        self.quantized = {name: q for name, q in network.quantized.items() if name not in floats}
        self.held: dict[str, str] = {}
        self._steps: list[tuple[tuple[str, ...], tuple[str, ...], Callable[..., Any]]] = []
        for step in network.steps:
            build = OPERATORS.get(step.op)
            if build is None:
                known = ", ".join(sorted(OPERATORS))
                raise NiwakiError(
                    f"the graph '{network.name}' has the operator {step.op}, which has no form in "
                    f"torch; carried are {known}"
                )
            constants = tuple(network.constants.get(i) if i else None for i in step.inputs)
            shapes = tuple(network.arrays[o].shape for o in step.outputs)
            read = step.inputs[:1] if step.op in FIRST_ALONE else step.inputs
            function = build(Given(step.op, step.attributes, constants, shapes))
            self._steps.append((read, step.outputs, function))
            for name in read:
                self._hold(network.storage(name) if name else "")
        for name in network.outputs:
            self._hold(network.storage(name))

    def _hold(self, name: str) -> None:
        """A constant as a buffer; weights on int8 stay on it."""
        if name not in self.network.constants or name in self.held:
            return
        place = f"constant{len(self.held)}"
        quantized = self.quantized.get(name)
        if quantized is None:
            stored = self.network.quantized.get(name)
            known = self.network.constants[name] if stored is None else stored.real()
            value = torch.from_numpy(np.array(known))
            self.register_buffer(place, value)
        else:
            q, scale, zero = weights_on_int8(quantized.values, quantized.scale, quantized.zero)
            for part, value in (("", q), ("_scale", scale), ("_zero", zero)):
                self.register_buffer(f"{place}{part}", value)
        self.held[name] = place

    def _constant(self, name: str) -> Tensor:
        place, quantized = self.held[name], self.quantized.get(name)
        value: Tensor = getattr(self, place)
        if quantized is None:
            return value
        scale, zero = getattr(self, f"{place}_scale"), getattr(self, f"{place}_zero")
        grid: tuple[Any, ...]
        if scale.ndim == 0:
            kind, grid = "tensor", (float(quantized.scale), int(quantized.zero) - _offset(quantized.values))
        else:
            kind, grid = "channel", (scale, zero, quantized.axis)
        grid = (*grid, rounding.LOW, rounding.HIGH, torch.int8)
        made: Tensor = getattr(_OPS, f"dequantize_per_{kind}")(self._integers(value, kind, grid), *grid)
        return made

    def _integers(self, held: Tensor, kind: str, grid: tuple[Any, ...]) -> Tensor:
        """Of a weight on a grid for each `kind`: what is held."""
        return held

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        values = dict(zip(self.network.inputs, inputs, strict=True))

        def read(name: str) -> Tensor | None:
            if not name:
                return None
            root = self.network.storage(name)
            found = values[root] if root in values else self._constant(root)
            shape = self.network.arrays[name].shape
            return found if root == name else found.reshape(shape)

        for inputs_of, outputs_of, function in self._steps:
            given = [read(name) for name in inputs_of]
            while given and given[-1] is None:
                given.pop()
            made = function(*given)
            several = made if isinstance(made, tuple | list) else (made,)
            values |= dict(zip(outputs_of, several, strict=True))
        out = [read(name) for name in self.network.outputs]
        return tuple(one for one in out if one is not None)

    def zeros(self) -> list[Tensor]:
        """An input of each shape and type, for tracing."""
        arrays = (self.network.arrays[name] for name in self.network.inputs)
        return [torch.from_numpy(np.zeros(array.shape, array.dtype)) for array in arrays]


def weights_on_int8(values: np.ndarray, scale: np.ndarray, zero: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Stored integers and their zero points moved from 0 … 255 to −128 … 127; scales as they are."""
    offset = _offset(values)
    q = (values.astype(np.int16) - offset).astype(np.int8)
    zeros = np.broadcast_to(zero.astype(np.int64) - offset, scale.shape)
    return (
        torch.from_numpy(q),
        torch.from_numpy(np.array(scale, np.float32)),
        torch.from_numpy(np.array(zeros)),
    )


def _offset(values: np.ndarray) -> int:
    return 128 if values.dtype == np.uint8 else 0

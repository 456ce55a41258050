"""A torch module as an executorch program (`.pte`), what of it XNNPACK computes, and running it here."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from niwaki.core.contract import NiwakiError
from niwaki_runtime.samplers.base import State

__all__ = ["Lowered", "PteGraph", "installed", "lower"]


def installed() -> bool:
    """Whether executorch is here; it is imported when a graph is lowered."""
    try:
        import executorch.exir  # noqa: F401
    except ImportError:
        return False
    return True


@dataclass(frozen=True)
class Lowered:
    """
    data:      the program; empty where `left` names some
    left:      buffers of weights on integers that no kernel multiplies with as they are
    delegated: operators that XNNPACK computes, by name how many; portable: those of executorch's own kernels
    """

    data: bytes
    delegated: dict[str, int]
    portable: dict[str, int]
    left: tuple[str, ...] = ()


@contextmanager
def _quiet() -> Iterator[None]:
    """What executorch's and torch's exporters say to their own developers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


def lower(module: nn.Module, inputs: Sequence[Tensor], name: str) -> Lowered:
    """The module for inputs of these shapes. Raises NiwakiError where torch or executorch cannot take it."""
    with _quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.devtools.backend_debug import get_delegation_info
        from executorch.exir import to_edge_transform_and_lower

        try:
            exported = torch.export.export(module, tuple(inputs), strict=False)
            edge = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
            left = _left(edge.exported_program())
            if left:
                return Lowered(b"", {}, {}, left)
            info = get_delegation_info(edge.exported_program().graph_module)
            made = edge.to_executorch()
        except Exception as error:  # its passes share no base class of errors
            cause = error
            while cause.__cause__ is not None and isinstance(cause.__cause__, Exception):
                cause = cause.__cause__
            said = str(cause).strip().splitlines()
            raise NiwakiError(
                f"executorch cannot take the graph '{name}': {said[0] if said else type(cause).__name__}"
            ) from error
    counts = info.delegation_by_operator.values()
    return Lowered(
        bytes(made.buffer),
        {c.op_type: int(c.delegated) for c in counts if c.delegated},
        {c.op_type: int(c.non_delegated) for c in counts if c.non_delegated},
    )


def _left(program: Any) -> tuple[str, ...]:
    """Buffers that are still to be dequantized by channels: XNNPACK takes a product on integers where what
    comes before it and after it is rounded, too."""
    buffers = program.graph_signature.inputs_to_buffers
    return tuple(
        buffers[node.args[0].name]
        for node in program.graph.nodes
        if "dequantize_per_channel" in str(node.target) and node.args[0].name in buffers
    )


class PteGraph:
    """A program that is run by executorch in this process, called as a bundle's sampler calls a graph: for
    one sample at a time.

    kinds: types of the inputs, as the program takes them
    """

    def __init__(self, data: bytes, kinds: Sequence[np.dtype[Any]], state: tuple[State, ...] = ()) -> None:
        with _quiet():
            from executorch.runtime import Runtime

            self._program = Runtime.get().load_program(data)
            self._method = self._program.load_method("forward")
        self._kinds, self.state = list(kinds), state

    def __call__(self, *arrays: np.ndarray) -> Any:
        given = [
            torch.from_numpy(np.ascontiguousarray(a, kind))
            for a, kind in zip(arrays, self._kinds, strict=True)
        ]
        out = [np.array(o.numpy()) for o in self._method.execute(given)]
        return out[0] if len(out) == 1 else tuple(out)

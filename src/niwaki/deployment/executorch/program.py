"""A torch module as an executorch program (`.pte`), what of it XNNPACK computes, and running it here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from niwaki.core.contract import NiwakiError
from niwaki.deployment.torch_graph.quiet import first_sentence, quiet

__all__ = ["LoadedProgram", "Lowered", "lower"]


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


def lower(module: nn.Module, inputs: Sequence[Tensor], name: str) -> Lowered:
    """The module for inputs of these shapes. Raises NiwakiError where torch or executorch cannot take it."""
    with quiet():
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
            raise NiwakiError(
                f"executorch cannot take the graph '{name}': {first_sentence(error)}"
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


class LoadedProgram:
    """A program in executorch's own runtime, in this process: inputs of the graph → its outputs."""

    def __init__(self, data: bytes) -> None:
        with quiet():
            from executorch.runtime import Runtime

            self._program = Runtime.get().load_program(data)  # the method reads its memory
            self._method = self._program.load_method("forward")

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [o.numpy() for o in self._method.execute([torch.from_numpy(a) for a in arrays])]

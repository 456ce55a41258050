"""Reading and changing captured graphs of torch (`torch.fx`), one operator at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch._dispatch.python import enable_python_dispatcher
from torch.export import ExportedProgram
from torch.fx import Node

__all__ = ["RESHAPES", "SAME_VALUES", "Writer", "arguments_of", "aten", "shape_of"]

aten = torch.ops.aten

SAME_VALUES = (
    aten.clone.default,
    aten.contiguous.default,
    aten.alias.default,
    aten.detach.default,
    aten.lift_fresh_copy.default,
)
RESHAPES = (aten.view.default, aten.reshape.default, aten._unsafe_view.default)


def arguments_of(node: Node) -> dict[str, Any]:
    """Arguments of a call by name."""
    schema: Any = node.target
    names = (a.name for a in schema._schema.arguments)
    return dict(zip(names, node.args, strict=False)) | node.kwargs


class Writer:
    """Inserts calls before a node, with the values that torch would see."""

    def __init__(self, program: ExportedProgram, before: Node) -> None:
        self.graph, self.before = program.graph_module.graph, before

    def __call__(self, operator: Any, *arguments: Any) -> Node:
        with self.graph.inserting_before(self.before):
            node = self.graph.call_function(operator, arguments)
        values = torch.fx.node.map_arg(arguments, lambda n: n.meta["val"])
        mode = next(a for a in _tensors(values)).fake_mode
        with mode, enable_python_dispatcher(), torch.no_grad():
            node.meta["val"] = operator(*values)
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack"):
            if key in self.before.meta:
                node.meta[key] = self.before.meta[key]
        return node


def _tensors(values: Any) -> list[Any]:
    if isinstance(values, torch.Tensor):
        return [values]
    return [t for v in values for t in _tensors(v)] if isinstance(values, list | tuple) else []


def shape_of(node: Any) -> tuple[Any, ...]:
    """Sizes; None for one that follows the batch."""
    return tuple(int(s) if isinstance(s, int) else None for s in node.meta["val"].shape)

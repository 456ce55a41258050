"""Preparing a model for torch-pruning's tracer: gated inputs, marked outputs, layers it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from niwaki.contract import GenerativeModel, NiwakiError
from niwaki.nn.layouts import layout_of
from niwaki.nn.surgery import width

__all__ = ["Traced", "bare_parameters", "dependency_graph", "own_layers"]


class Traced(nn.Module):
    """A model behind 1×1 gates on its inputs: the tracer then knows their widths and sees who meets them."""

    def __init__(self, model: GenerativeModel) -> None:
        super().__init__()
        self.model = model
        self.graphs = model.graphs()  # after the copy, so that the views are of the copy's modules
        self.gates = nn.ModuleDict()
        for name, graph in self.graphs.items():
            for i, value in enumerate(graph.example(2)):
                if value.is_floating_point() and value.ndim >= 2:
                    self.gates[f"{name}/{i}".replace(".", "_")] = _gate(value)

    def forward(self, _: Any) -> list[Tensor]:
        outputs: list[Tensor] = []
        for name, graph in self.graphs.items():
            inputs = list(graph.example(2))
            for i, value in enumerate(inputs):
                key = f"{name}/{i}".replace(".", "_")
                if key in self.gates:
                    inputs[i] = self.gates[key](value)
            out = graph(*inputs)
            for one in out if isinstance(out, tuple | list) else (out,):
                if one.is_floating_point() and one.requires_grad:
                    outputs.append(one * 1.0)  # so that a last layer is followed by the marker of an output
        return outputs


def _gate(value: Tensor) -> nn.Module:
    c = value.shape[1]
    kinds: dict[int, Any] = {2: nn.Linear, 3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
    if value.ndim not in kinds:
        raise NiwakiError(f"an input with {value.ndim} axes cannot be traced for pruning")
    return (kinds[2](c, c) if value.ndim == 2 else kinds[value.ndim](c, c, 1)).to(value.device)


def dependency_graph(tp: Any) -> Any:
    """A dependency graph that is told the widths of a concatenation's parts instead of guessing them."""

    class Told(tp.DependencyGraph):  # type: ignore[misc]
        def _trace(self, *arguments: Any, **named: Any) -> Any:
            nodes = super()._trace(*arguments, **named)
            for node in nodes.values():
                if node.type == tp.ops.OPTYPE.CONCAT and getattr(node.grad_fn, "_saved_dim", None) == 1:
                    parts = node.grad_fn.next_functions
                    if all(f is not None for f, _ in parts):
                        node.module.concat_sizes = [int(f._input_metadata[i].shape[1]) for f, i in parts]
            return nodes

    return Told()


def bare_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, int]]:
    """Parameters that belong to no layer of torch, with the axis most likely to count channels."""
    for path, module in model.named_modules():
        try:
            layout_of(module, "out")
            continue  # a known layer: its parameters go with it
        except NiwakiError:
            pass
        for leaf, p in module._parameters.items():
            if p is not None and p.is_floating_point() and max(p.shape, default=1) > 1:
                wide = [i for i, s in enumerate(p.shape) if s > 1]
                yield f"{path}.{leaf}".lstrip("."), p, 1 if p.ndim >= 4 and p.shape[1] > 1 else wide[-1]


def own_layers(model: nn.Module) -> dict[Any, Any]:
    """Modules with a `resize` and a `width` of their own, and normalizations torch-pruning does not know."""
    from torch_pruning.pruner.function import BasePruningFunc

    class Own(BasePruningFunc):
        def prune_out_channels(self, layer: nn.Module, idxs: Any) -> nn.Module:
            return layer

        def prune_in_channels(self, layer: nn.Module, idxs: Any) -> nn.Module:
            return layer

        def get_out_channels(self, layer: nn.Module) -> int:
            return width(layer, "out")

        def get_in_channels(self, layer: nn.Module) -> int:
            return width(layer, "in")

    class Norm(Own):
        def prune_out_channels(self, layer: nn.Module, idxs: Any) -> nn.Module:
            return layer

        prune_in_channels = prune_out_channels

        get_in_channels = Own.get_out_channels

    found: dict[Any, Any] = {}
    for module in model.modules():
        if callable(getattr(module, "resize", None)) and callable(getattr(module, "width", None)):
            found[type(module)] = Own()
        elif isinstance(module, nn.RMSNorm):
            found[type(module)] = Norm()
    return found

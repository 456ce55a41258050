"""Networks quantized by torchao and compiled with frozen weights: no more is needed to run them.

What is known to break (inf and a crash on some Linear layers, ConvTranspose left in float) is not repaired:
it is what a user meets, and the row says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from niwaki.compression.quantization.calibrate import calibration_inputs
from niwaki.core.contract import GenerativeModel, Graph, NiwakiError

__all__ = ["WAYS", "networks", "parts", "quantized"]

WAYS = ("int8 weight-only", "int8 dynamic", "int8 static (pt2e)")
Call = Callable[..., Any]


def networks(model: GenerativeModel, way: str) -> dict[str, Call]:
    """graph → a compiled function of tensors; `compiled` is bf16 without any quantization."""
    if way == "compiled":
        return {n: _compiled(g.module, autocast=True) for n, g in _used(model).items()}
    made = quantized(model, way)
    return {name: _compiled(module, autocast=way == WAYS[2]) for name, module in made.items()}


def _used(model: GenerativeModel) -> dict[str, Graph]:
    used = model.sampler().graphs_used()
    return {name: graph for name, graph in model.eval().graphs().items() if name in used}


def _compiled(module: nn.Module, *, autocast: bool) -> Call:
    import torch._inductor.config as inductor

    call = torch.compile(module, dynamic=False)

    def run(*inputs: Tensor) -> Any:
        # Quantized or not, convolutions and products that stayed float are fastest in bf16.
        with inductor.patch(freezing=True), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            return call(*inputs)

    return run


def quantized(model: GenerativeModel, way: str) -> dict[str, nn.Module]:
    """Raises NiwakiError where torchao found nothing to quantize, which it does not say."""
    if way == WAYS[2]:
        return {name: _static(model, name, graph) for name, graph in _used(model).items()}
    from torchao.quantization import (
        Int8DynamicActivationInt8WeightConfig,
        Int8WeightOnlyConfig,
        quantize_,
    )

    config = Int8WeightOnlyConfig() if way == WAYS[0] else Int8DynamicActivationInt8WeightConfig()
    quantize_(model.eval(), config)
    if not any(parts(p) for p in model.parameters()):
        raise NiwakiError("torchao quantized nothing: its filter takes Linear layers, and there are none")
    return {name: graph.module for name, graph in _used(model).items()}


def _static(model: GenerativeModel, name: str, graph: Graph) -> nn.Module:
    """Export, X86InductorQuantizer, calibration, conversion: torchao's tutorial for int8 on x86."""
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    items = calibration_inputs(model, 64)[name]
    batch = torch.export.Dim("batch")
    axes = [p.batch_axis for p in graph.inputs] + [s.batch_axis for s in graph.state]
    shapes = tuple(None if axis is None else {axis: batch} for axis in axes)
    flat = _Positional(graph.module)
    program = torch.export.export(flat.eval(), graph.example(3), dynamic_shapes=(shapes,), strict=False)
    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(program.module(), quantizer)
    with torch.no_grad():
        for item in items:
            prepared(*(torch.from_numpy(item[k].copy()) for k in graph.input_names))
    made = convert_pt2e(prepared)
    if not any("quantize" in str(n.target) for n in made.graph.nodes):
        raise NiwakiError("torchao quantized nothing: no Q/DQ node in the converted graph")
    move_exported_model_to_eval(made)
    return made


class _Positional(nn.Module):
    """`dynamic_shapes` are given for one tuple of inputs, however many there are."""

    def __init__(self, wrapped: nn.Module) -> None:
        super().__init__()
        self.wrapped = wrapped

    def forward(self, *inputs: Tensor) -> Any:
        return self.wrapped(*inputs)


def parts(tensor: Tensor) -> list[Tensor]:
    """The plain tensors inside a quantized one; [] for a plain one."""
    inner = getattr(tensor, "tensor_data_names", None)
    if inner is None and hasattr(type(tensor), "__tensor_flatten__") and type(tensor) is not nn.Parameter:
        inner = tensor.__tensor_flatten__()[0]  # type: ignore[attr-defined]
    return [getattr(tensor, name) for name in inner or () if getattr(tensor, name, None) is not None]

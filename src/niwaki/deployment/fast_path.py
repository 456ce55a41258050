"""What will leave an engine's fast path: found by trial, before a model is quantized.

A copy of the model gets 8-bit layers with makeshift ranges and is exported; the engine opens it; and what it
then really runs is read. No list of operators could say that: it changes with the engine's version, with the
machine, and with what stands before and after an operator.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from niwaki.core.contract import CallError, GenerativeModel, Graph, nearest
from niwaki.deployment.bake import bake
from niwaki.deployment.counting import quantized_nodes
from niwaki.deployment.export import to_onnx
from niwaki.deployment.onnx_file import producers, read_onnx, write_graphs
from niwaki.deployment.runtime_graph import READERS, RuntimeGraph
from niwaki.surgery.quantized import LayerBits, Quantizer, fit_weights, quantize_layer
from niwaki.surgery.quantized_math import affine_scale, symmetric_scale
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["OffPath", "layer_macs", "off_fast_path"]


@dataclass(frozen=True)
class OffPath:
    """Something that will be computed more slowly than the plan may expect.

    graph:    whose operator it is; empty where it is about the whole plan
    operator: its type in ONNX (`ConvTranspose`), or the step (`prune`)
    module:   the layer's name in the model, or how many operators of the type there are
    shape:    of its weight; empty where it has none
    reason:   why, as far as is known
    share:    of the multiply-accumulates of a sample in layers with weights, 0 … 1; None where none is known
    """

    graph: str
    operator: str
    module: str
    reason: str
    shape: tuple[int, ...] = ()
    share: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "shape": list(self.shape)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> OffPath:
        return cls(**{**record, "shape": tuple(record["shape"])})

    def __str__(self) -> str:
        size = f" {'×'.join(map(str, self.shape))}" if self.shape else ""
        share = f", {self.share:.0%} of the arithmetic" if self.share is not None else ""
        graph = f" in '{self.graph}'" if self.graph else ""
        return f"{self.operator} '{self.module}'{size}{graph}{share}: {self.reason}"


def off_fast_path(
    model: GenerativeModel, asked: Mapping[str, LayerBits], *, engine: str = "openvino"
) -> list[OffPath]:
    """What `engine` would not compute on integers on this machine, if the layers `asked` were quantized.

    asked: layer → how. Batch norms should stand in the layers before them already, as quantization puts them
    Raises CallError for an engine or a layer that there is not, NiwakiError where the trial model cannot be
    exported or opened.
    """
    if engine not in READERS:
        raise CallError(f"there is no engine '{engine}'; {nearest(engine, READERS)}")
    made = copy.deepcopy(model).cpu().eval()
    macs = layer_macs(made)
    total = sum(macs.values()) or 1
    names = {id(module): name for name, module in made.named_modules()}
    found = [_stored(made, name, bits, engine, macs, total) for name, bits in asked.items()]
    if any(bits.input for bits in asked.values()):
        _quantize(made, asked)
        graphs = made.graphs()
        with scratch_directory() as folder:
            used = made.sampler().graphs_used()
            protos = {n: to_onnx(n, graphs[n], bake(graphs[n].module)) for n in used}
            for name, path in write_graphs(protos, folder).items():
                run = READERS[engine](path)
                kept = {n: names[id(m)] for n, m in graphs[name].module.named_modules() if id(m) in names}
                found += _left(name, read_onnx(path), run, engine, kept, macs, total)
    return [one for one in found if one is not None]


def _stored(
    model: nn.Module, name: str, bits: LayerBits, engine: str, macs: Mapping[str, int], total: int
) -> OffPath | None:
    """A layer whose weights alone are integers, where that makes nothing faster."""
    layer: Any = model.get_submodule(name)
    if bits.input or isinstance(layer, nn.Embedding):
        return None
    if engine == "openvino" and not isinstance(layer, _ConvNd):
        return None  # it multiplies with the packed weights of linear layers
    kind = _kind(layer)
    reason = f"its weights alone have {bits.bits} bits: {engine} computes with floats; the file is smaller"
    return OffPath("", kind, name, reason, tuple(layer.weight.shape), macs.get(name, 0) / total)


def _kind(layer: nn.Module) -> str:
    if isinstance(layer, _ConvNd):
        return "ConvTranspose" if isinstance(layer, _ConvTransposeNd) else "Conv"
    return "Gemm"


@torch.no_grad()
def _quantize(model: GenerativeModel, asked: Mapping[str, LayerBits]) -> None:
    """The layers quantized in place, with the ranges that one batch of example inputs gives."""
    layers = {name: quantize_layer(model.get_submodule(name), bits) for name, bits in asked.items()}
    ends: dict[str, tuple[float, float]] = {}

    def watch(name: str) -> Callable[..., None]:
        def see(module: nn.Module, inputs: Any, named: Any) -> None:
            x = inputs[0] if inputs else named["input"]
            low, high = ends.get(name, (0.0, 0.0))
            if x.is_floating_point():
                ends[name] = min(low, float(x.min())), max(high, float(x.max()))

        return see

    given = {name: layer.input_quantizer for name, layer in layers.items()}
    for layer in layers.values():
        fit_weights(layer, "minmax")
        layer.input_quantizer = None
    handles = [m.register_forward_pre_hook(watch(n), with_kwargs=True) for n, m in layers.items()]
    _examples(model)
    for handle in handles:
        handle.remove()
    for name, quantizer in given.items():
        layers[name].input_quantizer = quantizer
        if isinstance(quantizer, Quantizer):
            rows = torch.tensor([ends.get(name, (-1.0, 1.0))])
            if quantizer.signed:
                quantizer.set(symmetric_scale(rows, 8, "minmax"))
            else:
                quantizer.set(*affine_scale(rows, 0, 255, "minmax"))


@torch.no_grad()
def layer_macs(model: GenerativeModel) -> dict[str, int]:
    """Multiply-accumulates of each convolution and linear layer, for one call of each sampling graph with one
    sample."""
    found: Counter[str] = Counter()

    def count(name: str) -> Callable[..., None]:
        def see(module: Any, inputs: Any, out: Tensor) -> None:
            if isinstance(module, nn.Linear):
                found[name] += out.numel() * module.in_features
                return
            # Every output position meets every kernel position; transposed, every input position does.
            positions = (inputs[0] if module.transposed else out)[:, 0].numel()
            pairs = module.in_channels * module.out_channels // module.groups
            found[name] += positions * pairs * math.prod(module.kernel_size)

        return see

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear | _ConvNd)]
    handles = [m.register_forward_hook(count(n)) for n, m in layers]
    try:
        _examples(model, 1)
    finally:
        for handle in handles:
            handle.remove()
    return dict(found)


def _examples(model: GenerativeModel, n: int = 3) -> None:
    graphs: dict[str, Graph] = model.graphs()
    for name in model.sampler().graphs_used():
        graphs[name](*graphs[name].example(n, 1))


def _left(
    graph: str,
    file: onnx.ModelProto,
    run: RuntimeGraph,
    engine: str,
    names: Mapping[str, str],
    macs: Mapping[str, int],
    total: int,
) -> list[OffPath]:
    found = []
    asked = quantized_nodes(file)
    for kind, nodes in _by_kind(asked).items():
        if run.slow is None:
            slow = [n for n in nodes if n.name in run.float]
        else:  # what was merged away is not slow: no more than really ran in float
            slow = [n for n in nodes if n.name not in run.integer][: run.slow[kind]]
        for node in slow:
            weight, shape = _weight(file, node)
            module = names.get(weight.rpartition(".")[0], weight or node.name)
            share = macs[module] / total if module in macs else None
            found.append(OffPath(graph, node.op_type, module, _why(engine, kind, file, node), shape, share))
    if run.products:
        reason = f"{engine} multiplies two activations in float, and converts before and after"
        found.append(OffPath(graph, "MatMul", f"{run.products} products", reason))
    if run.norms and len(asked):
        reason = "computed in float among integers: values are converted before and after"
        found.append(OffPath(graph, "norm over the sample", f"{run.norms} operators", reason))
    return found


def _by_kind(nodes: list[onnx.NodeProto]) -> dict[str, list[onnx.NodeProto]]:
    """Linear layers are one kind, as Gemm or as MatMul."""
    kinds: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        kinds.setdefault("Gemm" if node.op_type == "MatMul" else node.op_type, []).append(node)
    return kinds


def _weight(file: onnx.ModelProto, node: onnx.NodeProto) -> tuple[str, tuple[int, ...]]:
    """The stored tensor that the operator multiplies with, by name, and its shape."""
    made_by, stored = producers(file), {t.name: t for t in file.graph.initializer}
    for value in reversed(node.input[:2]):
        while value in made_by:
            value = made_by[value].input[0]
        if value in stored:
            return value, tuple(stored[value].dims)
    return "", ()


def _why(engine: str, kind: str, file: onnx.ModelProto, node: onnx.NodeProto) -> str:
    if engine == "onnxruntime":
        if kind == "ConvTranspose":
            return "onnxruntime has no integer kernel for it, and computes in float"
        return (
            "onnxruntime multiplies integers only where the result becomes integers at once; here it does not"
        )
    if kind == "ConvTranspose":
        source = producers(file).get(node.input[0])
        zeros = {t.name: t for t in file.graph.initializer}
        zero = zeros.get(source.input[2]) if source is not None and len(source.input) > 2 else None
        if zero is not None and onnx.numpy_helper.to_array(zero).any():
            return "openvino computes it in float where its input has a zero point"
    return "openvino computes it in float on this machine"

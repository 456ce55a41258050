"""What an engine makes of a file: which operators it runs on integers, and which in float all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import onnx

from niwaki.core.contract import NiwakiError, first_line
from niwaki.deployment.counting import weighted_nodes
from niwaki.deployment.onnx_file import read_onnx

__all__ = ["READERS", "RuntimeGraph", "count_executed"]

_KINDS = {
    "Convolution": "Conv",
    "Deconvolution": "ConvTranspose",
    "FullyConnected": "Gemm",
    "FullyConnectedQuantized": "Gemm",
    "FullyConnectedQuantizedLegacy": "Gemm",
    "MatMul": "MatMul",
}
"""openvino's names for operators with weights; what it still calls MatMul are products of activations."""

_NUMBERS = {"i8": "int8", "u8": "int8", "f32": "float32", "f16": "float16", "bf16": "bfloat16"}
"""openvino's names for types of numbers."""

_NORMS = ("MVN", "NormalizeL2", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMS")
_FLOATS = ("Conv", "ConvTranspose", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul")
"""What onnxruntime's optimised graph calls operators with weights where they compute in float."""


@dataclass
class RuntimeGraph:
    """What an engine made of a file.

    integer, float:  names of operators with weights that run on integers, in float; engines lose some
    slow:            how many run in float, by type; None where names say it all
    norms, products: how many norms over the sample, and products of two activations, run in float
    """

    integer: set[str] = field(default_factory=set)
    float: set[str] = field(default_factory=set)
    slow: Counter[str] | None = None
    norms: int = 0
    products: int = 0


def count_executed(path: Path | str, *, batch: int = 1) -> dict[str, Counter[str]]:
    """How many operators of each type openvino runs in each type of number, on this machine, at this batch.

    >>> count_executed("generator-int8.onnx")  # doctest: +SKIP
    {'Conv': Counter({'int8': 1}), 'ConvTranspose': Counter({'int8': 2, 'float32': 1})}

    Raises NiwakiError where openvino cannot compile the file.
    """
    found: dict[str, Counter[str]] = {}
    for operator in _compiled(path, batch):
        if operator.kind:
            found.setdefault(operator.kind, Counter())[operator.number] += 1
    return found


class _Operator(NamedTuple):
    """An operator as openvino runs it.

    layer:  openvino's name for it
    kind:   its type in ONNX; None where it is none with weights and no product
    number: the type of numbers that it computes in
    """

    layer: str
    kind: str | None
    number: str
    originals: tuple[str, ...]


def _compiled(path: Path | str, batch: int) -> Iterator[_Operator]:
    """What openvino runs, in order. Raises NiwakiError where it cannot compile the file."""
    import openvino

    try:
        core = openvino.Core()
        model = core.read_model(str(path))
        model.reshape(
            {
                port.any_name: [batch if d.is_dynamic else d.get_length() for d in port.partial_shape]
                for port in model.inputs
            }
        )
        operators = core.compile_model(model, "CPU", {}).get_runtime_model().get_ordered_ops()
    except RuntimeError as error:
        raise NiwakiError(f"openvino cannot compile {path}: {str(error).strip().splitlines()[-1]}") from error
    for operator in operators:
        info = operator.get_rt_info()
        layer, number = _text(info, "layerType"), _text(info, "runtimePrecision")
        kind = _KINDS.get(layer)
        names = _text(info, "originalLayersNames").split(",") if kind else ()
        yield _Operator(layer, kind, _NUMBERS.get(number, number), tuple(names))


def _text(info: object, key: str) -> str:
    """What openvino says of an executed operator under `key`."""
    value = info[key]  # type: ignore[index]
    return str(value.astype(str) if hasattr(value, "astype") else value)


def _openvino(path: Path) -> RuntimeGraph:
    slow: Counter[str] = Counter()
    run = RuntimeGraph(slow=slow)
    for operator in _compiled(path, 1):
        if operator.kind and operator.number == "int8":
            run.integer |= _originals(operator.originals)
        elif operator.kind == "MatMul":
            run.products += 1
        elif operator.kind:
            slow[operator.kind] += 1
        elif operator.layer.startswith(_NORMS):
            run.norms += 1
    return run


def _originals(names: Iterable[str]) -> set[str]:
    return {name.split("/")[0] for name in names}


def _onnxruntime(path: Path) -> RuntimeGraph:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path.with_suffix(".optimised"))
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it raises classes of its own for whatever it does not like
        raise NiwakiError(f"onnxruntime cannot open {path}: {first_line(error)}") from error
    original, made = read_onnx(path), onnx.load(options.optimized_model_filepath)
    weighted = {n.name for n in weighted_nodes(original)}
    run = RuntimeGraph(float={n.name for n in made.graph.node if n.op_type in _FLOATS})
    run.products = sum(n.op_type == "MatMul" and n.name not in weighted for n in original.graph.node)
    run.norms = sum(n.op_type.startswith(_NORMS) for n in made.graph.node)
    return run


READERS: dict[str, Callable[[Path], RuntimeGraph]] = {"openvino": _openvino, "onnxruntime": _onnxruntime}
"""Engine → what it makes of a file."""

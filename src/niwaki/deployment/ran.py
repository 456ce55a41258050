"""What an engine makes of a quantized file: which operators it runs on integers, and which in float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from niwaki.core.contract import NiwakiError, first_line
from niwaki.deployment.counting import weighted_nodes
from niwaki.deployment.executed import KINDS, NUMBERS, runtime_text
from niwaki.deployment.onnx_file import read_onnx

__all__ = ["READERS", "Ran"]

_NORMS = ("MVN", "NormalizeL2", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "RMS")
_FLOATS = ("Conv", "ConvTranspose", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul")
"""What onnxruntime's optimised graph calls operators with weights where they compute in float."""


@dataclass
class Ran:
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


def _openvino(path: Path) -> Ran:
    import openvino

    try:
        core = openvino.Core()
        model = core.read_model(str(path))
        model.reshape(
            {
                port.any_name: [1 if d.is_dynamic else d.get_length() for d in port.partial_shape]
                for port in model.inputs
            }
        )
        ran = core.compile_model(model, "CPU", {}).get_runtime_model().get_ordered_ops()
    except RuntimeError as error:
        raise NiwakiError(f"openvino cannot compile {path}: {str(error).strip().splitlines()[-1]}") from error
    run = Ran(slow=Counter())
    assert run.slow is not None
    for operator in ran:
        info = operator.get_rt_info()
        layer = runtime_text(info, "layerType")
        kind, number = KINDS.get(layer), NUMBERS.get(runtime_text(info, "runtimePrecision"))
        if kind and number == "int8":
            run.integer |= _originals(runtime_text(info, "originalLayersNames").split(","))
        elif kind == "MatMul":
            run.products += 1
        elif kind:
            run.slow[kind] += 1
        elif layer.startswith(_NORMS):
            run.norms += 1
    return run


def _originals(names: Iterable[str]) -> set[str]:
    return {name.split("/")[0] for name in names}


def _onnxruntime(path: Path) -> Ran:
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
    run = Ran(float={n.name for n in made.graph.node if n.op_type in _FLOATS})
    run.products = sum(n.op_type == "MatMul" and n.name not in weighted for n in original.graph.node)
    run.norms = sum(n.op_type.startswith(_NORMS) for n in made.graph.node)
    return run


READERS: dict[str, Callable[[Path], Ran]] = {"openvino": _openvino, "onnxruntime": _onnxruntime}
"""Engine → what it makes of a file."""

"""What the engine really computes in: a file may be quantized and its operators run in float all the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from niwaki.core.contract import NiwakiError

__all__ = ["KINDS", "NUMBERS", "count_executed", "runtime_text"]

KINDS = {
    "Convolution": "Conv",
    "Deconvolution": "ConvTranspose",
    "FullyConnected": "Gemm",
    "FullyConnectedQuantized": "Gemm",
    "FullyConnectedQuantizedLegacy": "Gemm",
    "MatMul": "MatMul",
}
"""openvino's names for operators with weights; what it still calls MatMul are products of activations."""

NUMBERS = {"i8": "int8", "u8": "int8", "f32": "float32", "f16": "float16", "bf16": "bfloat16"}
"""openvino's names for types of numbers."""


def count_executed(path: Path | str, *, batch: int = 1) -> dict[str, Counter[str]]:
    """How many operators of each type openvino runs in each type of number, on this machine, at this batch.

    >>> count_executed("generator-int8.onnx")  # doctest: +SKIP
    {'Conv': Counter({'int8': 1}), 'ConvTranspose': Counter({'int8': 2, 'float32': 1})}

    Raises NiwakiError where openvino cannot compile the file.
    """
    import openvino

    core = openvino.Core()
    try:
        model = core.read_model(str(path))
        shapes = {
            port.any_name: [batch if d.is_dynamic else d.get_length() for d in port.partial_shape]
            for port in model.inputs
        }
        model.reshape(shapes)
        compiled = core.compile_model(model, "CPU", {})
    except RuntimeError as error:
        raise NiwakiError(f"openvino cannot compile {path}: {str(error).strip().splitlines()[-1]}") from error
    found: dict[str, Counter[str]] = {}
    for operator in compiled.get_runtime_model().get_ordered_ops():
        info = operator.get_rt_info()
        kind = KINDS.get(runtime_text(info, "layerType"))
        if kind is not None:
            number = NUMBERS.get(
                runtime_text(info, "runtimePrecision"), runtime_text(info, "runtimePrecision")
            )
            found.setdefault(kind, Counter())[number] += 1
    return found


def runtime_text(info: object, key: str) -> str:
    """What openvino says of an executed operator under `key`."""
    value = info[key]  # type: ignore[index]
    return str(value.astype(str) if hasattr(value, "astype") else value)

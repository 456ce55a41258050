"""OpenVINO: the default engine, fast on x86 and Arm CPUs."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from niwaki_runtime.engines.base import Binding, GraphRunner, Tensor, register
from niwaki_runtime.engines.byte_products import clips_byte_products
from niwaki_runtime.errors import NiwakiError

__all__ = ["OpenVino", "integer_options", "multiply_adds"]

_ALONE = 8_000_000
"""Multiply-adds of a call below which one thread is faster: waking another takes longer than it saves."""


@cache
def _core() -> Any:
    """One core for the process: making it loads the plugins."""
    import openvino

    return openvino.Core()


class _Request(Binding):
    def __init__(self, compiled: Any, inputs: list[int], outputs: list[int]) -> None:
        from openvino import Tensor as Memory

        self._memory = Memory
        self._request = compiled.create_infer_request()
        self._inputs, self._outputs = inputs, outputs
        self._shapes = [tuple(compiled.outputs[i].shape) for i in outputs]

    def output_shapes(self) -> list[tuple[int, ...]]:
        return self._shapes

    def bind_input(self, index: int, array: np.ndarray) -> None:
        self._request.set_input_tensor(self._inputs[index], self._memory(array, shared_memory=True))

    def bind_output(self, index: int, array: np.ndarray) -> None:
        self._request.set_output_tensor(self._outputs[index], self._memory(array, shared_memory=True))

    def run(self) -> None:
        self._request.infer(None, share_outputs=True, decode_strings=False)


@register("openvino", rank=0, memory=48 << 20)
class OpenVino(GraphRunner):
    """Compiled anew for each set of input shapes: on tiny graphs, fixed ones are a quarter faster, and so is
    one thread."""

    def _open(self, source: Path, precision: str, threads: int | None) -> tuple[list[Tensor], list[Tensor]]:
        try:
            self._model = _core().read_model(source)
        except RuntimeError as error:
            raise NiwakiError(f"openvino cannot read {source}: {_last_line(error)}") from error
        self._options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if precision == "exact":
            # Otherwise bfloat16 or float16 inside where the CPU has units for it.
            self._options |= {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = threads
        if clips_byte_products() and any(
            op.get_type_name() == "FakeQuantize" for op in self._model.get_ops()
        ):
            # Values are rounded as the graph says, and multiplied as floats: slower than clipped, and right.
            self._options["LP_TRANSFORMS_MODE"] = "NO"
        inputs, outputs = [_tensor(p) for p in self._model.inputs], [_tensor(p) for p in self._model.outputs]
        self._input_index = {t.name: i for i, t in enumerate(inputs)}
        self._output_index = {t.name: i for i, t in enumerate(outputs)}
        return inputs, outputs

    def _prepare(self, shapes: tuple[tuple[int, ...], ...]) -> Binding:
        order = [self._input_index[t.name] for t in self.inputs]
        try:
            model = self._model.clone()
            model.reshape({i: list(shape) for i, shape in zip(order, shapes, strict=True)})
            options = dict(self._options)
            if multiply_adds(model) < _ALONE:
                options["INFERENCE_NUM_THREADS"] = 1
            compiled = _core().compile_model(model, "CPU", options)
        except RuntimeError as error:
            raise NiwakiError(f"openvino cannot compile '{self._name}': {_last_line(error)}") from error
        for port in compiled.outputs:
            if port.partial_shape.is_dynamic:
                raise NiwakiError(
                    f"the shape of the output '{port.any_name}' of '{self._name}' depends on the values"
                )
        return _Request(compiled, order, [self._output_index[t.name] for t in self.outputs])


def integer_options(model: Any) -> dict[str, str]:
    """How an `openvino.Model` is compiled so that its integers come out right on this processor: where
    products of bytes are clipped, values are rounded as the graph says and multiplied as floats."""
    rounded = any(op.get_type_name() == "FakeQuantize" for op in model.get_ops())
    return {"LP_TRANSFORMS_MODE": "NO"} if rounded and clips_byte_products() else {}


_CONVOLUTIONS = {
    "Convolution": ("out", 1),  # weights (out, in, …): each output value sums over all but the first axis
    "GroupConvolution": ("out", 2),  # (groups, out, in, …)
    "ConvolutionBackpropData": ("in", 1),  # (in, out, …): each input value goes into as many products
    "GroupConvolutionBackpropData": ("in", 2),
}


def multiply_adds(model: Any) -> int:
    """Of one call of an `openvino.Model` with fixed shapes, in its convolutions and matrix products; what has
    loops inside counts as large."""
    total = 0
    for op in model.get_ops():
        kind = op.get_type_name()
        if kind == "MatMul":
            rows, columns = ([*op.input(0).get_partial_shape()] * 2)[-2:]
            across = rows if op.get_attributes()["transpose_a"] else columns
            total += _count(op.output(0)) * (_ALONE if across.is_dynamic else across.get_length())
        elif kind in _CONVOLUTIONS:
            side, axes = _CONVOLUTIONS[kind]
            weights = [d.get_length() for d in op.input(1).get_partial_shape()]
            moved = op.output(0) if side == "out" else op.input(0)
            total += _count(moved) * math.prod(weights[axes:])
        elif kind.endswith("Sequence") or kind in ("TensorIterator", "Loop", "If", "Einsum"):
            total += _ALONE
    return total


def _tensor(port: Any) -> Tensor:
    shape = tuple(None if d.is_dynamic else d.get_length() for d in port.partial_shape)
    return Tensor(port.any_name, shape, np.dtype(port.element_type.to_dtype()))


def _count(port: Any) -> int:
    """Elements; where a shape is not known before the run, so many that they count as large."""
    shape = port.get_partial_shape()
    return _ALONE if shape.is_dynamic else math.prod(d.get_length() for d in shape)


def _last_line(error: Exception) -> str:
    """The last sentence of OpenVINO's message: the ones before name its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

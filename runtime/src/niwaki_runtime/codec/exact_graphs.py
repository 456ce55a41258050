"""A bundle's networks in float64 by numpy: a coded file must not depend on the engine that is installed.

The evaluator is ONNX's own reference; it knows nothing of threads or of fused operators, and int8 networks
run in it on exact whole numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from niwaki_runtime.codec.windows import window_operators
from niwaki_runtime.errors import BundleError, NiwakiError, first_line
from niwaki_runtime.samplers import State

__all__ = ["ExactGraph", "open_exact"]

_OPSET = 21  # the first whose operators the reference evaluator has in full, quantization included


class ExactGraph:
    """Inputs by position, floats in float64; all outputs as a tuple, floats in float64.

    state: what it carries from call to call; the last inputs and outputs
    """

    def __init__(
        self, evaluator: Any, inputs: tuple[str, ...], outputs: tuple[str, ...], state: tuple[State, ...] = ()
    ) -> None:
        self._evaluator, self._inputs, self._outputs, self.state = evaluator, inputs, outputs, state

    def __call__(self, *inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        given = dict(zip(self._inputs, map(_wide, inputs), strict=True))
        return tuple(np.asarray(out) for out in self._evaluator.run(list(self._outputs), given))


def open_exact(
    file: Path, inputs: tuple[str, ...], outputs: tuple[str, ...], state: tuple[State, ...] = ()
) -> ExactGraph:
    """The ONNX graph `file`; its inputs and outputs with those of its state.

    Raises NiwakiError where `onnx` is not installed, BundleError for a graph that its evaluator cannot run.
    """
    try:
        import onnx
        from onnx.reference import ReferenceEvaluator
    except ImportError as error:
        raise NiwakiError("the codec needs the package `onnx`; install niwaki-runtime[codec]") from error
    try:
        model = onnx.load(str(file))
        _widen(model, onnx)
        return ExactGraph(ReferenceEvaluator(model, new_ops=window_operators()), inputs, outputs, state)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{file.name} cannot be run exactly: {first_line(error)}") from error


def _wide(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x)
    return x.astype(np.float64) if x.dtype.kind == "f" else x


def _widen(model: Any, onnx: Any) -> None:
    """Every float32 constant and cast of the graph in float64."""
    single, double = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE

    def widened(tensor: Any) -> None:
        if tensor.data_type == single:
            values = onnx.numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))

    def walk(graph: Any) -> None:
        for tensor in graph.initializer:
            widened(tensor)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == single:
                    attribute.i = double
                if attribute.type == onnx.AttributeProto.TENSOR:
                    widened(attribute.t)
                if attribute.type == onnx.AttributeProto.GRAPH:
                    walk(attribute.g)

    walk(model.graph)
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = max(opset.version, _OPSET)

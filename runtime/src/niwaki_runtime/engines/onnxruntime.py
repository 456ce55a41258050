"""ONNX Runtime: the engine that runs everywhere. It computes in the graph's own types: `fast` is `exact`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from niwaki_runtime.engines.base import Binding, GraphRunner, Tensor, register
from niwaki_runtime.errors import NiwakiError

__all__ = ["OnnxRuntime"]

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(int16)": "int16",
    "tensor(int8)": "int8",
    "tensor(uint64)": "uint64",
    "tensor(uint32)": "uint32",
    "tensor(uint16)": "uint16",
    "tensor(uint8)": "uint8",
    "tensor(bool)": "bool",
}


class _Session(Binding):
    def __init__(
        self,
        session: Any,
        inputs: tuple[Tensor, ...],
        outputs: tuple[Tensor, ...],
        shapes: list[tuple[int, ...]],
    ) -> None:
        self._session, self._io = session, session.io_binding()
        self._inputs, self._outputs, self._shapes = inputs, outputs, shapes

    def output_shapes(self) -> list[tuple[int, ...]]:
        return self._shapes

    def bind_input(self, index: int, array: np.ndarray) -> None:
        tensor = self._inputs[index]
        self._io.bind_input(tensor.name, "cpu", 0, tensor.dtype, array.shape, array.ctypes.data)

    def bind_output(self, index: int, array: np.ndarray) -> None:
        tensor = self._outputs[index]
        self._io.bind_output(tensor.name, "cpu", 0, tensor.dtype, array.shape, array.ctypes.data)

    def run(self) -> None:
        self._session.run_with_iobinding(self._io)


@register("onnxruntime", rank=1, memory=12 << 20)
class OnnxRuntime(GraphRunner):
    """One session for all shapes; only the memory is bound per set of shapes."""

    def _open(self, source: Path, precision: str, threads: int | None) -> tuple[list[Tensor], list[Tensor]]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: its warnings speak to developers of graphs
        options.inter_op_num_threads = 1
        # Without VNNI, products of bytes are added in 32 bits all the same; elsewhere it changes nothing.
        options.add_session_config_entry("session.x64quantprecision", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(
                str(source), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base class
            raise NiwakiError(f"onnxruntime cannot read {source}: {error}") from error
        return [_tensor(i) for i in self._session.get_inputs()], [
            _tensor(o) for o in self._session.get_outputs()
        ]

    def _prepare(self, shapes: tuple[tuple[int, ...], ...]) -> Binding:
        # A session does not tell the shapes of its outputs beforehand: one run on zeros does.
        zeros = {t.name: np.zeros(s, t.dtype) for t, s in zip(self.inputs, shapes, strict=True)}
        try:
            made = self._session.run([t.name for t in self.outputs], zeros)
        except Exception as error:
            raise NiwakiError(f"onnxruntime cannot run '{self._name}': {error}") from error
        return _Session(self._session, self.inputs, self.outputs, [m.shape for m in made])


def _tensor(port: Any) -> Tensor:
    if port.type not in _DTYPES:
        raise NiwakiError(f"'{port.name}' is a {port.type}, which this runtime does not handle")
    shape = tuple(d if isinstance(d, int) else None for d in port.shape)
    return Tensor(port.name, shape, np.dtype(_DTYPES[port.type]))

"""OpenVINO: the default engine, fast on x86 and Arm CPUs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from niwaki_runtime.engines.base import Binding, GraphRunner, Tensor, register
from niwaki_runtime.errors import NiwakiError

__all__ = ["OpenVino"]


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


@register("openvino", rank=0)
class OpenVino(GraphRunner):
    """Compiled anew for each set of input shapes: on tiny graphs, fixed ones are a quarter faster."""

    def _open(self, source: Path, precision: str, threads: int | None) -> tuple[list[Tensor], list[Tensor]]:
        try:
            self._model = _core().read_model(source)
        except RuntimeError as error:
            raise NiwakiError(f"openvino cannot read {source}: {_first_line(error)}") from error
        self._options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if precision == "exact":
            # Otherwise bfloat16 or float16 inside where the CPU has units for it.
            self._options |= {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = threads
        inputs, outputs = [_tensor(p) for p in self._model.inputs], [_tensor(p) for p in self._model.outputs]
        self._input_index = {t.name: i for i, t in enumerate(inputs)}
        self._output_index = {t.name: i for i, t in enumerate(outputs)}
        return inputs, outputs

    def _prepare(self, shapes: tuple[tuple[int, ...], ...]) -> Binding:
        order = [self._input_index[t.name] for t in self.inputs]
        try:
            model = self._model.clone()
            model.reshape({i: list(shape) for i, shape in zip(order, shapes, strict=True)})
            compiled = _core().compile_model(model, "CPU", self._options)
        except RuntimeError as error:
            raise NiwakiError(f"openvino cannot compile '{self._name}': {_first_line(error)}") from error
        for port in compiled.outputs:
            if port.partial_shape.is_dynamic:
                raise NiwakiError(
                    f"the shape of the output '{port.any_name}' of '{self._name}' depends on the values"
                )
        return _Request(compiled, order, [self._output_index[t.name] for t in self.outputs])


def _tensor(port: Any) -> Tensor:
    shape = tuple(None if d.is_dynamic else d.get_length() for d in port.partial_shape)
    return Tensor(port.any_name, shape, np.dtype(port.element_type.to_dtype()))


def _first_line(error: Exception) -> str:
    """The last sentence of OpenVINO's message: the ones before name its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

"""What every engine shares: the registry, and a runner that binds inputs and outputs once per set of shapes.

On a tiny network the call costs more than the arithmetic, so buffers are given to the engine once and
refilled; tensors too large to copy for nothing (caches) are handed over by reference, call by call.
"""

from __future__ import annotations

import importlib.util
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from niwaki_runtime.errors import BundleError, CallError, NiwakiError, nearest
from niwaki_runtime.samplers.base import State

__all__ = [
    "Binding",
    "GraphRunner",
    "Tensor",
    "available",
    "engine_memory",
    "known_engines",
    "open_graph",
    "register",
    "resolve_engine",
]

PRECISIONS = ("fast", "exact")
_LARGE = 1 << 16  # bytes; above, an array is bound by reference rather than copied
_KEEP = 8  # sets of input shapes that stay bound


@dataclass(frozen=True)
class Tensor:
    """An input or output as the graph's file declares it; None stands for a dimension that is free."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


class Binding(ABC):
    """A graph made ready for one set of input shapes."""

    @abstractmethod
    def output_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of all outputs, known before the first run."""

    @abstractmethod
    def bind_input(self, index: int, array: np.ndarray) -> None:
        """Let the engine read input `index` from this memory."""

    @abstractmethod
    def bind_output(self, index: int, array: np.ndarray) -> None:
        """Let the engine write output `index` to this memory."""

    @abstractmethod
    def run(self) -> None:
        """Compute the outputs from the inputs, on this thread, to the end."""


class _Bound:
    """A binding with its buffers: small tensors are copied in and out, large ones pass by reference."""

    def __init__(
        self,
        binding: Binding,
        shapes: Sequence[tuple[int, ...]],
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
    ) -> None:
        if len(shapes) != len(inputs):
            raise BundleError(f"a network takes {len(inputs)} inputs, and the sampler gives {len(shapes)}")
        self._binding = binding
        self._inputs = [self._buffer(shape, t.dtype) for shape, t in zip(shapes, inputs, strict=True)]
        if len(binding.output_shapes()) != len(outputs):
            raise BundleError("a network gives other outputs than the manifest lists")
        self._outputs = [
            self._buffer(s, t.dtype) for s, t in zip(binding.output_shapes(), outputs, strict=True)
        ]
        for i, (held, _, _) in enumerate(self._inputs):
            if held is not None:
                binding.bind_input(i, held)
        for i, (held, _, _) in enumerate(self._outputs):
            if held is not None:
                binding.bind_output(i, held)

    @staticmethod
    def _buffer(
        shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[np.ndarray | None, tuple[int, ...], np.dtype[Any]]:
        size = int(np.prod(shape)) * dtype.itemsize
        return (np.empty(shape, dtype) if size <= _LARGE else None), shape, dtype

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        alive = []  # what is bound by reference must outlive the run
        for i, ((held, _, dtype), array) in enumerate(zip(self._inputs, arrays, strict=True)):
            if held is not None:
                np.copyto(held, array, casting="same_kind")
            else:
                array = np.require(array, dtype, ("C", "A", "W"))
                alive.append(array)
                self._binding.bind_input(i, array)
        fresh: list[np.ndarray] = []
        for i, (held, shape, dtype) in enumerate(self._outputs):
            if held is None:
                fresh.append(np.empty(shape, dtype))
                self._binding.bind_output(i, fresh[-1])
        self._binding.run()
        made = iter(fresh)
        return [held.copy() if held is not None else next(made) for held, _, _ in self._outputs]


class GraphRunner(ABC):
    """An ONNX graph on one engine: numpy arrays by position in, one new array (or a tuple of them) out.

    source:    path of the file
    inputs:    names in the order of the call, state last; the file's own order where none is given
    outputs:   names in the order of the result, state last
    state:     what the caller carries from call to call (see `State`)
    precision: `exact` computes in float32; `fast` lets the engine choose (bfloat16 or float16 where the
               machine is faster at it)
    threads:   CPU threads; None is the engine's own choice

    Results are never overwritten by later calls. Calls from several threads take turns. The first call with
    new shapes prepares the graph for them and is slower; the last eight sets of shapes stay prepared.
    """

    engine: str
    rank: int
    memory: int

    def __init__(
        self,
        source: Path,
        *,
        inputs: Sequence[str] | None,
        outputs: Sequence[str] | None,
        state: tuple[State, ...],
        precision: str,
        threads: int | None,
    ) -> None:
        self.state = state
        self._name = source.stem
        declared_inputs, declared_outputs = self._open(source, precision, threads)
        self.inputs = self._arrange(declared_inputs, inputs, "input")
        self.outputs = self._arrange(declared_outputs, outputs, "output")
        self._bound: OrderedDict[tuple[tuple[int, ...], ...], _Bound] = OrderedDict()
        self._lock = threading.Lock()

    @abstractmethod
    def _open(self, source: Path, precision: str, threads: int | None) -> tuple[list[Tensor], list[Tensor]]:
        """Load the file; its inputs and outputs as declared."""

    @abstractmethod
    def _prepare(self, shapes: tuple[tuple[int, ...], ...]) -> Binding:
        """The graph ready for inputs (in the order of `self.inputs`) of these shapes."""

    def _arrange(self, declared: list[Tensor], names: Sequence[str] | None, what: str) -> tuple[Tensor, ...]:
        if names is None:
            return tuple(declared)
        known = {t.name: t for t in declared}
        for name in names:
            if name not in known:
                raise NiwakiError(f"the graph '{self._name}' has no {what} '{name}'; {nearest(name, known)}")
        missing = set(known) - set(names)
        if what == "input" and missing:
            raise NiwakiError(f"the graph '{self._name}' also needs the input '{sorted(missing)[0]}'")
        return tuple(known[name] for name in names)

    def __call__(self, *arrays: np.ndarray) -> Any:
        """One array, or a tuple where the graph has several outputs. Raises CallError for wrong shapes."""
        key = tuple([a.shape for a in arrays])
        with self._lock:
            bound = self._bound.get(key)
            if bound is None:
                bound = self._bind(key)
            self._bound.move_to_end(key)
            out = bound(arrays)
        return out[0] if len(out) == 1 else tuple(out)

    def _bind(self, shapes: tuple[tuple[int, ...], ...]) -> _Bound:
        if len(shapes) != len(self.inputs):
            wanted = ", ".join(t.name for t in self.inputs)
            raise CallError(
                f"the graph '{self._name}' takes {len(self.inputs)} inputs ({wanted}), not {len(shapes)}"
            )
        for shape, tensor in zip(shapes, self.inputs, strict=True):
            fits = len(shape) == len(tensor.shape) and all(
                d is None or d == s for s, d in zip(shape, tensor.shape, strict=True)
            )
            if not fits:
                free = tuple("n" if d is None else d for d in tensor.shape)
                raise CallError(
                    f"the input '{tensor.name}' of '{self._name}' has the shape {free}, not {shape}"
                )
        bound = _Bound(self._prepare(shapes), shapes, self.inputs, self.outputs)
        self._bound[shapes] = bound
        while len(self._bound) > _KEEP:
            self._bound.popitem(last=False)
        return bound


_ENGINES: dict[str, type[GraphRunner]] = {}


def register(name: str, *, rank: int, memory: int) -> Callable[[type[GraphRunner]], type[GraphRunner]]:
    """Class decorator: an engine known by `name`, also the name of its package and of the extra.

    rank:   `auto` takes the installed engine of the lowest rank
    memory: bytes that a network of no size takes at its peak, above what importing the engine does
    """

    def enter(cls: type[GraphRunner]) -> type[GraphRunner]:
        cls.engine, cls.rank, cls.memory = name, rank, memory
        _ENGINES[name] = cls
        return cls

    return enter


def available() -> list[str]:
    """Engines whose package is installed here, the preferred one first."""
    ranked = sorted(_ENGINES, key=lambda name: _ENGINES[name].rank)
    return [name for name in ranked if importlib.util.find_spec(name) is not None]


def known_engines() -> list[str]:
    """All engines that this runtime works with, installed or not."""
    return list(_ENGINES)


def engine_memory(engine: str) -> int:
    """Bytes that a network of no size takes at its peak in an engine: nearly all of it is the engine's own
    code, that it reads as it needs it."""
    return _ENGINES[engine].memory


def resolve_engine(engine: str) -> str:
    """`engine`, or for `auto` the preferred one that is installed.

    Raises CallError for an unknown name and NiwakiError for an engine that is not installed.
    """
    if engine != "auto" and engine not in _ENGINES:
        raise CallError(f"there is no engine '{engine}'; {nearest(engine, ['auto', *_ENGINES])}")
    installed = available()
    if engine == "auto":
        if not installed:
            raise NiwakiError("no inference engine is installed; pip install 'niwaki-runtime[openvino]'")
        return installed[0]
    if engine not in installed:
        raise NiwakiError(f"the engine '{engine}' is not installed; pip install 'niwaki-runtime[{engine}]'")
    return engine


def open_graph(
    engine: str,
    path: Path | str,
    *,
    precision: str = "fast",
    threads: int | None = None,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    state: tuple[State, ...] = (),
) -> GraphRunner:
    """The ONNX file `path` on `engine` (`openvino`, `onnxruntime`, `auto`), ready to call; see `GraphRunner`.

    Raises CallError for a wrong argument, NiwakiError for a missing engine or a file that the engine
    cannot read.
    """
    if precision not in PRECISIONS:
        raise CallError(f"there is no precision '{precision}'; {nearest(precision, PRECISIONS)}")
    if threads is not None and threads < 1:
        raise CallError(f"threads must be at least 1, not {threads}")
    runner = _ENGINES[resolve_engine(engine)]
    path = Path(path)
    if not path.is_file():
        raise NiwakiError(f"{path} does not exist")
    return runner(path, inputs=inputs, outputs=outputs, state=state, precision=precision, threads=threads)

"""A sampler as steps: it is called once with arrays that write down what is done with them.

What samplers do is the same on torch tensors and on numpy arrays; here it is done on names. Coefficients are
numbers of Python, so that they end up as literals in float32, as numpy rounds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from niwaki.core.contract import NiwakiError
from niwaki.deployment.static_graph.network import Array, Network, Step
from niwaki_runtime.noise import STREAMS
from niwaki_runtime.programs import Program
from niwaki_runtime.samplers import Noise

__all__ = ["Traced", "trace"]


@dataclass
class Tape:
    """Steps as they are written down. `kind` names the sampler in sentences."""

    kind: str
    arrays: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def array(self, shape: tuple[int, ...], dtype: str = "float32") -> str:
        name = f"s{len(self.arrays)}"
        self.arrays[name] = Array(shape, dtype)
        return name

    def constant(self, values: np.ndarray) -> str:
        name = self.array(values.shape, str(values.dtype))
        self.constants[name] = values
        return name

    def step(self, op: str, inputs: tuple[str, ...], shape: tuple[int, ...], dtype: str = "float32") -> str:
        name = self.array(shape, dtype)
        self.steps.append(Step(op, inputs, (name,)))
        return name

    def refuse(self, what: str) -> NoReturn:
        raise NiwakiError(
            f"the sampler '{self.kind}' {what}, which has no form in C; carried are samplers that add, scale "
            "and clip what networks make of noise (one_shot, diffusion, mean_flow, and cascades of them)"
        )


class Traced:
    """An array of which nothing is known but its shape: one name for each row."""

    __array_ufunc__ = None  # numpy's scalars leave the operation to this class

    def __init__(self, tape: Tape, rows: tuple[str, ...]) -> None:
        self.tape, self.rows = tape, rows

    @property
    def _one(self) -> Array:
        return self.tape.arrays[self.rows[0]]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self._one.shape[1:])

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def _with(self, op: str, other: Any, flipped: bool = False) -> Traced:
        if isinstance(other, Traced):
            others = other.rows * (len(self.rows) if len(other.rows) == 1 else 1)
        elif isinstance(other, int | float | np.floating | np.integer):
            dtype = "int32" if self._one.dtype == "int32" else "float32"
            others = (self.tape.constant(np.asarray(other, dtype)),) * len(self.rows)
        else:
            return self.tape.refuse("computes with arrays of its own")
        made = []
        for a, b in zip(self.rows, others, strict=True):
            pair = (b, a) if flipped else (a, b)
            shape = np.broadcast_shapes(*(self.tape.arrays[p].shape for p in pair))
            made.append(self._known(op, pair) or self.tape.step(op, pair, shape, self._one.dtype))
        return Traced(self.tape, tuple(made))

    def _known(self, op: str, pair: tuple[str, ...]) -> str:
        """Of integers: what is asked for where nothing is asked, `c * 0 + null`, is a constant."""
        values = [self.tape.constants.get(p) for p in pair]
        if self._one.dtype != "int32":
            return ""
        if op == "Mul" and any(v is not None and not v.any() for v in values):
            return self.tape.constant(np.zeros(self._one.shape, np.int32))
        if op == "Add" and values[0] is not None and values[1] is not None:
            return self.tape.constant((values[0] + values[1]).astype(np.int32))
        return ""

    def __add__(self, other: Any) -> Traced:
        return self._with("Add", other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Traced:
        return self._with("Mul", other)

    def __rmul__(self, other: Any) -> Traced:
        return self._with("Mul", other, flipped=True)

    def __sub__(self, other: Any) -> Traced:
        return self._with("Sub", other)

    def __rsub__(self, other: Any) -> Traced:
        return self._with("Sub", other, flipped=True)

    def __truediv__(self, other: Any) -> Traced:
        return self._with("Div", other)

    def __neg__(self) -> Traced:
        return self * -1.0

    def clip(self, low: float, high: float) -> Traced:
        bounds = tuple(self.tape.constant(np.asarray(b, np.float32)) for b in (low, high))
        made = [self.tape.step("Clip", (row, *bounds), self._one.shape) for row in self.rows]
        return Traced(self.tape, tuple(made))

    def __getitem__(self, place: Any) -> Traced:
        if not isinstance(place, slice):
            return self.tape.refuse("takes samples apart")
        return Traced(self.tape, self.rows[place])

    def __getattr__(self, name: str) -> Any:
        return self.tape.refuse(f"asks arrays for '{name}'")

    def __array__(self, *of: Any, **options: Any) -> NoReturn:
        self.tape.refuse("decides by the values of arrays")

    def __bool__(self) -> NoReturn:
        self.tape.refuse("decides by the values of arrays")


class TracedNamespace:
    """What samplers use of an array namespace."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape

    def concat(self, arrays: list[Traced], axis: int = 0) -> Traced:
        if axis != 0:
            self.tape.refuse("joins samples along another axis")
        return Traced(self.tape, tuple(row for array in arrays for row in array.rows))

    def __getattr__(self, name: str) -> Any:
        return self.tape.refuse(f"calls '{name}'")


class TracedBackend:
    """Where names live."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape

    def namespace(self, array: Any) -> TracedNamespace:
        return TracedNamespace(self.tape)

    def asarray(self, array: np.ndarray) -> Traced:
        values = array.astype(np.int32) if array.dtype.kind in "iu" else array.astype(np.float32)
        return Traced(self.tape, tuple(self.tape.constant(row[None]) for row in values))

    def numpy(self, array: Any) -> NoReturn:
        self.tape.refuse("decides by the values of arrays")

    def normal(
        self, seed: int, start: int, n: int, shape: tuple[int, ...], *, stream: str, draw: int
    ) -> Traced:
        name = self.tape.array((1, *shape))
        told = {"stream": STREAMS[stream], "draw": draw}
        self.tape.steps.append(Step("Normal", (), (name,), told))
        return Traced(self.tape, (name,))


@dataclass(frozen=True)
class TracedNoise(Noise):
    """Normal numbers only: others are looked at on the way."""

    tape: Tape | None = None

    def uniform(self, *of: Any, **options: Any) -> NoReturn:
        assert self.tape is not None
        self.tape.refuse("draws one value after another")


class TracedGraph:
    """A network that is called: one step for each row."""

    state = ()

    def __init__(self, tape: Tape, network: Network, workspace: int) -> None:
        self.tape, self.network, self.workspace = tape, network, workspace

    def __call__(self, *inputs: Traced) -> Any:
        rows = max(len(x.rows) for x in inputs) if inputs else 1
        made: list[tuple[str, ...]] = []
        for k in range(rows):
            names = tuple(x.rows[k if len(x.rows) > 1 else 0] for x in inputs)
            for name, declared in zip(names, self.network.inputs, strict=True):
                if self.tape.arrays[name].size != self.network.arrays[declared].size:
                    self.tape.refuse(f"gives the network '{self.network.name}' another shape")
            outputs = tuple(
                self.tape.array(self.network.arrays[o].shape, self.network.arrays[o].dtype)
                for o in self.network.outputs
            )
            work = self.tape.array((max(self.workspace, 1),), "uint8")
            told = {"network": self.network.name}
            self.tape.steps.append(Step("Call", names, (*outputs, work), told))
            made.append(outputs)
        found = tuple(Traced(self.tape, rows_of) for rows_of in zip(*made, strict=True))
        return found[0] if len(found) == 1 else found


def trace(
    program: Program, networks: Mapping[str, Network], workspaces: Mapping[str, int], stateful: set[str]
) -> Network:
    """The steps of one sample of a program, whose inputs are its conditions by name and whose only output is
    the result.

    workspaces: bytes that each network needs while it works
    stateful:   networks that carry state from call to call
    Raises NiwakiError for a sampler that decides by values, which steps cannot.
    """
    sampler = program.sampler
    tape = Tape(sampler.kind)
    for name in sampler.graphs_used():
        if name in stateful:
            tape.refuse(f"calls '{name}' with state from call to call")
    inputs = {}
    for name in sampler.conditions_used():
        value = program.inputs[name].value
        tape.arrays[name] = Array((1, *value.shape), "int32" if value.is_tokens else "float32")
        inputs[name] = Traced(tape, (name,))
    graphs: dict[str, Any] = {k: TracedGraph(tape, networks[k], workspaces[k]) for k in networks}
    noise = TracedNoise(TracedBackend(tape), 0, 0, 1, tape=tape)
    call: Callable[..., Any] = sampler.__call__
    try:
        made = call(graphs, noise, inputs)
    except (TypeError, AttributeError, ValueError) as error:
        tape.refuse(f"does what cannot be written down ({error})")
    if not isinstance(made, Traced) or len(made.rows) != 1:
        tape.refuse("makes something else than one array")
    out = made.rows[0]
    network = Network("sampler", tuple(inputs), (out,), tape.arrays, tape.constants, {}, tape.steps)
    if out in network.constants or out in network.inputs:
        tape.refuse("makes nothing of its own")
    network.remove_unused()
    return network

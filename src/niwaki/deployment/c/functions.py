"""Networks and samplers as C functions: a call for every step, each distinct operator once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from niwaki.deployment.c.arena import Plan
from niwaki.deployment.c.constants import Constants
from niwaki.deployment.c.operators import Kernel, Pointer, kernel_of
from niwaki.deployment.c.types import C_TYPES
from niwaki.deployment.static_graph.network import Network

__all__ = ["Functions", "Parameter"]


@dataclass(frozen=True)
class Parameter:
    """Of a function: its type and name in C."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}{'' if self.kind.endswith('*') else ' '}{self.name}"


class Functions:
    """What has been written so far. `constants` collects what the calls refer to."""

    def __init__(self, constants: Constants) -> None:
        self.constants = constants
        self._names: dict[tuple[str, str], str] = {}
        self._kernels: list[str] = []

    def kernels(self) -> str:
        """The operators' functions."""
        return "\n".join(self._kernels)

    def network(self, network: Network, plan: Plan, name: str, before: tuple[Parameter, ...] = ()) -> str:
        """A function that does the steps of a network in an arena.

        before: parameters in front of those of the inputs, the outputs and the arena
        """
        reads = [Parameter(f"const {_kind(network, i)} *", f"in_{k}") for k, i in enumerate(network.inputs)]
        writes = [Parameter(f"{_kind(network, o)} *", f"out_{k}") for k, o in enumerate(network.outputs)]
        places = {network.storage(i): f"in_{k}" for k, i in enumerate(network.inputs)}
        places |= {network.storage(o): f"out_{k}" for k, o in enumerate(network.outputs)}
        lines = [self._call(network, kernel_of(step, network), plan, places) for step in network.steps]
        parameters = [*before, *reads, *writes, Parameter("uint8_t *", "arena")]
        body = "".join(f"    {line}\n" for line in lines)
        idle = [p.name for p in parameters if not _used(p.name, body)]
        body = "".join(f"    (void){name};\n" for name in idle) + body
        return f"static void {name}({', '.join(map(str, parameters))})\n{{\n{body}}}\n"

    def _call(self, network: Network, kernel: Kernel, plan: Plan, places: dict[str, str]) -> str:
        at = {p.name: self._place(network, p, plan, places) for p in kernel.pointers}
        if kernel.inline:
            return kernel.body.format_map(at)
        parameters = ", ".join(
            str(Parameter(f"{'' if p.writes else 'const '}{_type(network, p)} *", p.name))
            for p in kernel.pointers
        )
        key = parameters, kernel.body
        if key not in self._names:
            name = f"{kernel.label}_{len(self._names)}"
            self._names[key] = name
            body = "".join(f"    {line}\n" for line in kernel.body.splitlines())
            self._kernels.append(f"static void {name}({parameters})\n{{\n{body}}}\n")
        return f"{self._names[key]}({', '.join(at.values())});"

    def _place(self, network: Network, pointer: Pointer, plan: Plan, places: dict[str, str]) -> str:
        if isinstance(pointer.array, np.ndarray):
            return self.constants.name(pointer.array)
        root = network.storage(pointer.array)
        if root in network.constants:
            return self.constants.name(network.constants[root])
        if root in places:
            return places[root]
        kind, offset = _type(network, pointer), plan.offsets[root]
        return f"arena + {offset}" if kind == "uint8_t" else f"({kind} *)(void *)(arena + {offset})"


def _used(name: str, body: str) -> bool:
    return any(f"{before}{name}{after}" in body for before in "( " for after in ",) ")


def _kind(network: Network, name: str) -> str:
    return C_TYPES[network.arrays[name].dtype]


def _type(network: Network, pointer: Pointer) -> str:
    if isinstance(pointer.array, np.ndarray):
        return C_TYPES[str(pointer.array.dtype)]
    return _kind(network, pointer.array)

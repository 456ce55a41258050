"""What a manifest lists: files, packed files, networks and their inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from niwaki_runtime.field_types import check_fields
from niwaki_runtime.samplers.base import State

__all__ = ["FileEntry", "GraphEntry", "InputEntry", "PackedEntry"]


@dataclass(frozen=True)
class FileEntry:
    """One file of the bundle: what it must hash to, and how long it is."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class PackedEntry(FileEntry):
    """A file that is not in the bundle but comes out of one that is: its hash and length, and which one."""

    file: str


@dataclass(frozen=True)
class InputEntry:
    """One input of a graph: name, full shape with the batch axis at 1, numpy dtype, batch axis or None."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    batch_axis: int | None = 0


@dataclass(frozen=True)
class GraphEntry:
    """One network.

    file:      relative path of its ONNX file
    role:      what it is for (`generator`, `decoder`, `denoiser` …)
    inputs:    in the order in which it is called, without the state
    outputs:   names, in the order in which they are returned, without the state
    state:     what it carries from call to call; follows `inputs` and `outputs`
    quantized: how many operators of each type run on integers
    """

    file: str
    role: str
    inputs: tuple[InputEntry, ...]
    outputs: tuple[str, ...] = ("output",)
    state: tuple[State, ...] = ()
    quantized: Mapping[str, int] = field(default_factory=dict)

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(i.name for i in self.inputs) + tuple(s.input for s in self.state)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(self.outputs) + tuple(s.output for s in self.state)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> GraphEntry:
        check_fields(cls, {k: v for k, v in record.items() if k not in ("inputs", "state")}, "a graph")
        for kind, name in ((InputEntry, "inputs"), (State, "state")):
            for one in record.get(name, ()):
                check_fields(kind, one, f"a graph's {name}")
        return cls(
            file=str(record["file"]),
            role=str(record["role"]),
            inputs=tuple(InputEntry(**{**i, "shape": tuple(i["shape"])}) for i in record["inputs"]),
            outputs=tuple(record["outputs"]),
            state=tuple(State(**{**s, "shape": tuple(s["shape"])}) for s in record.get("state", ())),
            quantized=dict(record.get("quantized", {})),
        )

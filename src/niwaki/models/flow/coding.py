"""What a codec asks of a flow: its layers one by one, values moved given those that stay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

from torch import Tensor

from niwaki.core.contract import ConditionSpec, Graph, Levels, Port, Program, View
from niwaki_runtime.programs import BITS, CODEC
from niwaki_runtime.samplers import LocalBitsBack

if TYPE_CHECKING:
    from niwaki.models.flow.flow_model import FlowModel

__all__ = ["CodedLayer", "coding_graphs", "coding_programs"]


@runtime_checkable
class CodedLayer(Protocol):
    """A layer that a codec can go through: it moves values one by one, given those that stay.

    moved: `(size,)` truths, which values; None for all of them by constants
    """

    @property
    def moved(self) -> Tensor | None: ...

    def each(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x `(n, size)` → z and log dz/dx `(n, size)`."""


def coded_layers(flow: FlowModel) -> list[CodedLayer]:
    """The layers; none where samples have no levels, or a layer moves values together."""
    layers = list(flow.flow)
    if not isinstance(flow.spec.values, Levels) or not all(isinstance(layer, CodedLayer) for layer in layers):
        return []
    return [cast(CodedLayer, layer) for layer in layers]


def coding_graphs(flow: FlowModel) -> dict[str, Graph]:
    """The networks of the codec: `cells`, `move_0` …, and `back_0` … of the layers that are no constants."""
    asked = (Port("class", (1,), "int64", high=flow.classes),) if flow.classes else ()
    shape = (1, flow.spec.size)
    found: dict[str, Graph] = {}
    for i, layer in enumerate(coded_layers(flow)):
        given = () if layer.moved is None else asked
        found[f"move_{i}"] = Graph(
            "likelihood", View(flow.flow[i], "each"), (Port("h", shape), *given), ("z", "log_slope")
        )
        if layer.moved is not None:
            found[f"back_{i}"] = Graph(
                "likelihood", View(flow.flow[i], "inverse"), (Port("z", shape), *given), ("h",)
            )
    if found:
        found["cells"] = Graph("likelihood", View(flow, "cells"), (Port("x", shape),), ("h", "log_slope"))
    return found


def coding_programs(flow: FlowModel) -> dict[str, Program]:
    """`codec` gives the bits that a sample takes at one draw of the noise in its cells."""
    layers = coded_layers(flow)
    if not layers:
        return {}
    patterns = [
        "0" if m is None else LocalBitsBack.pattern(m.cpu().numpy()) for m in (x.moved for x in layers)
    ]
    plan = LocalBitsBack(
        size=flow.spec.size,
        step=flow.step,
        moves=tuple(f"move_{i}" for i in range(len(layers))),
        backs=tuple("" if layer.moved is None else f"back_{i}" for i, layer in enumerate(layers)),
        moved=tuple(patterns),
        conditions=("x", *flow.conditions),
    )
    return {CODEC: Program(plan, {"x": ConditionSpec(flow.spec.x), **flow.conditions}, BITS)}

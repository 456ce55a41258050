"""Inputs of the graphs of a model and of a changed copy, on which their outputs can be compared."""

from __future__ import annotations

from niwaki.compression.quantization.ranges import Items
from niwaki.core.contract import GenerativeModel

__all__ = ["comparable_inputs", "same_state"]


def same_state(changed: GenerativeModel, whole: GenerativeModel, name: str) -> bool:
    """Whether a graph remembers arrays of the same shapes in both."""
    new, old = (model.shipped_graphs()[name].state for model in (changed, whole))
    return [s.shape for s in new] == [s.shape for s in old]


def comparable_inputs(changed: GenerativeModel, whole: GenerativeModel, items: Items) -> tuple[Items, Items]:
    """Inputs of the whole model and of the changed one. A state that a cut has narrowed (the keys and values
    of heads) is not one that the cut model would have made: of such a graph the first calls alone are taken,
    in which nothing is remembered yet."""
    before, after = dict(items), dict(items)
    for name, graph in changed.shipped_graphs().items():
        if name not in items or same_state(changed, whole, name):
            continue
        old = whole.shipped_graphs()[name].state
        before[name] = [item for item in items[name] if not any(item[s.input].any() for s in old)]
        zeros = {s.input: s.zeros(1) for s in graph.state}
        after[name] = [{**item, **zeros} for item in before[name]]
    return before, after

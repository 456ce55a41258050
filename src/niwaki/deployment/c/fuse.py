"""Maps in one loop, and maps in the loop of the product before them: less memory, fewer passes."""

from __future__ import annotations

import math
import re
from dataclasses import replace

from niwaki.deployment.static_graph.network import Network, Step

__all__ = ["fuse"]

_PRODUCTS = ("Linear", "Conv", "ConvTranspose")


def fuse(network: Network) -> None:
    """Join until nothing more can be joined."""
    while _join_maps(network) or _join_product(network):
        pass


def _join_maps(network: Network) -> bool:
    """A map whose result one other map alone reads becomes part of it."""
    uses, makers = network.uses(), {o: s for s in network.steps for o in s.outputs}
    for place, step in enumerate(network.steps):
        if step.op != "Map":
            continue
        for k, name in enumerate(step.inputs):
            root = network.storage(name)
            before = makers.get(root)
            if before is None or before.op != "Map" or uses[root] != 1:
                continue
            joined = _joined(before, step, k)
            if joined is not None:
                network.steps[place] = joined
                network.steps.remove(before)
                return True
    return False


def _full(step: Step) -> bool:
    """Whether every operand has as many values as the result."""
    size = math.prod(step.attributes["shape"])
    return all(math.prod(shape) == size for shape in step.attributes["shapes"])


def _joined(before: Step, after: Step, place: int) -> Step | None:
    """One map of both; None where they go over other axes."""
    first, last = before.attributes, after.attributes
    size = math.prod(last["shape"])
    if math.prod(first["shape"]) != size or math.prod(last["shapes"][place]) != size:
        return None
    if first["shape"] == last["shape"]:
        shape, early, late = last["shape"], first["shapes"], last["shapes"]
    elif _full(before):
        shape, early, late = last["shape"], [last["shape"]] * len(before.inputs), last["shapes"]
    elif _full(after):
        shape, early, late = first["shape"], first["shapes"], [first["shape"]] * len(after.inputs)
    else:
        return None
    inputs, shapes = list(before.inputs), list(early)
    names = {}
    for k, (name, seen) in enumerate(zip(after.inputs, late, strict=True)):
        if k == place:
            names[f"a{k}"] = f"v{len(first['lines']) - 1}"
            continue
        pairs = list(zip(inputs, shapes, strict=True))
        if (name, seen) not in pairs:
            inputs.append(name)
            shapes.append(seen)
            pairs.append((name, seen))
        names[f"a{k}"] = f"a{pairs.index((name, seen))}"
    names |= {f"v{k}": f"v{k + len(first['lines'])}" for k in range(len(last["lines"]))}
    later = [(kind, re.sub(r"\b[av]\d+\b", lambda m: names[m[0]], text)) for kind, text in last["lines"]]
    attributes = {"lines": [*first["lines"], *later], "shape": shape, "shapes": shapes}
    return replace(after, inputs=tuple(inputs), attributes=attributes)


def _join_product(network: Network) -> bool:
    """A map that reads a product alone is done with each of its sums."""
    uses, makers = network.uses(), {o: s for s in network.steps for o in s.outputs}
    for place, step in enumerate(network.steps):
        if step.op != "Map" or len(step.inputs) != 1 or not _full(step):
            continue
        root = network.storage(step.inputs[0])
        before = makers.get(root)
        if before is None or before.op not in _PRODUCTS or uses[root] != 1:
            continue
        if "epilogue" in before.attributes:
            continue
        attributes = {**before.attributes, "epilogue": step}
        joined = replace(before, outputs=step.outputs, attributes=attributes)
        network.steps[network.steps.index(before)] = joined
        del network.steps[place]
        return True
    return False

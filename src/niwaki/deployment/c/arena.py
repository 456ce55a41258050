"""Where arrays lie in one piece of memory, by when they are needed: greedy by size (Pisarchyk & Lee 2020,
"Efficient memory management for deep neural net inference", Section 5.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from niwaki.deployment.c.operators import may_overwrite
from niwaki.deployment.static_graph.network import Network, Step

__all__ = ["Plan", "plan_arena"]

_ALIGNED = 8


@dataclass(frozen=True)
class Plan:
    """offsets: byte at which the storage of each name begins
    bytes:   of the whole arena
    least:   bytes that are needed at once at the worst step: no plan can do with less
    """

    offsets: dict[str, int]
    bytes: int
    least: int


def plan_arena(network: Network) -> Plan:
    """A place for every array that is neither a constant nor the caller's. Results lie on inputs that are no
    longer needed where the operator allows it (`network.views` says so afterwards)."""
    _overwrite(network)
    lives = _lives(network)
    sizes = {name: _rounded(network.arrays[name].bytes) for name in lives}
    placed: list[tuple[int, int, tuple[int, int]]] = []
    offsets = {}
    for name in sorted(lives, key=lambda n: (-sizes[n], lives[n])):
        at = 0
        for begin, size, life in sorted(placed):
            if life[0] <= lives[name][1] and lives[name][0] <= life[1]:
                if begin - at >= sizes[name]:
                    break
                at = max(at, begin + size)
        offsets[name] = at
        placed.append((at, sizes[name], lives[name]))
    ends = [offsets[name] + sizes[name] for name in lives]
    at_once = [
        sum(sizes[n] for n, (first, last) in lives.items() if first <= t <= last)
        for t in range(len(network.steps))
    ]
    return Plan(offsets, max(ends, default=0), max(at_once, default=0))


def _rounded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _callers(network: Network) -> set[str]:
    """Storage that the caller hands in."""
    return {network.storage(name) for name in (*network.inputs, *network.outputs)}


def _lives(network: Network) -> dict[str, tuple[int, int]]:
    """First and last step at which the storage of each name holds something."""
    callers, found = _callers(network), dict[str, tuple[int, int]]()
    for t, step in enumerate(network.steps):
        for name in (*step.inputs, *step.outputs):
            root = network.storage(name) if name else ""
            if root and root not in network.constants and root not in callers:
                found[root] = (found.get(root, (t, t))[0], t)
    return found


def _overwrite(network: Network) -> None:
    """Results take the storage of an input that ends with the step."""
    callers = _callers(network)
    for t, step in enumerate(network.steps):
        if not may_overwrite(step):
            continue
        out = network.storage(step.outputs[0])
        later = {network.storage(i) for s in network.steps[t + 1 :] for i in s.inputs if i}
        later |= {network.storage(o) for s in network.steps[t + 1 :] for o in s.outputs}
        for k, name in enumerate(step.inputs):
            root = network.storage(name)
            if root in network.constants or root in callers or out in callers or root in later:
                continue
            if root != out and _same_places(step, network, k):
                network.views[out] = root
                break


def _same_places(step: Step, network: Network, place: int) -> bool:
    """Whether value i of the result is written at the bytes of value i of the input, after that was read,
    and no other operand lies there."""
    name = step.inputs[place]
    roots = [network.storage(i) for i in step.inputs if i]
    shapes = step.attributes.get("shapes")
    if shapes is not None and math.prod(shapes[place]) != math.prod(step.attributes["shape"]):
        return False
    made, read = network.arrays[step.outputs[0]], network.arrays[name]
    return made.size == read.size and made.dtype == read.dtype and roots.count(network.storage(name)) == 1

"""Arrays that are needed at the same time never share a byte."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from niwaki.deployment.c.arena import plan_arena
from niwaki.deployment.static_graph.network import Array, Network, Step


def chain(sizes: list[int], skips: list[tuple[int, int]]) -> Network:
    """Arrays one after another, each made of the one before; a skip reads an early one late."""
    arrays = {f"t{k}": Array((1, n)) for k, n in enumerate(sizes)}
    steps = []
    for k in range(1, len(sizes)):
        also = tuple(f"t{a}" for a, b in skips if b == k)
        steps.append(Step("Concat", (f"t{k - 1}", *also), (f"t{k}",), {"axis": 1}))
    return Network("n", ("t0",), (f"t{len(sizes) - 1}",), arrays, {}, {}, steps)


def lives_of(network: Network) -> dict[str, tuple[int, int]]:
    found: dict[str, list[int]] = {}
    for t, step in enumerate(network.steps):
        for name in (*step.inputs, *step.outputs):
            found.setdefault(name, []).append(t)
    return {name: (min(at), max(at)) for name, at in found.items()}


@pytest.mark.parametrize("seed", range(20))
def test_what_is_needed_together_lies_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 200, 14).tolist()
    skips = [tuple(sorted(rng.choice(np.arange(1, 13), 2, replace=False).tolist())) for _ in range(4)]
    network = chain(sizes, skips)
    plan = plan_arena(network)
    lives = lives_of(network)
    assert set(plan.offsets) == {f"t{k}" for k in range(1, 13)}
    for a, b in combinations(plan.offsets, 2):
        if lives[a][0] <= lives[b][1] and lives[b][0] <= lives[a][1]:
            ends = [plan.offsets[x] + network.arrays[x].bytes for x in (a, b)]
            assert ends[0] <= plan.offsets[b] or ends[1] <= plan.offsets[a], (a, b)
    assert plan.least <= plan.bytes <= sum(-(-4 * n // 8) * 8 for n in sizes)
    assert max(plan.offsets[x] + network.arrays[x].bytes for x in plan.offsets) <= plan.bytes
    assert all(offset % 8 == 0 for offset in plan.offsets.values())


def test_a_chain_takes_its_two_largest_neighbours() -> None:
    plan = plan_arena(chain([8, 100, 50, 100, 10, 8], []))
    assert plan.bytes == plan.least == 4 * 150


def test_a_map_takes_the_place_of_what_it_alone_reads() -> None:
    arrays = {name: Array((64,)) for name in "xabcy"}
    lines = {"lines": [("float", "a0 * 2.0f")], "shape": (64,), "shapes": [(64,)]}
    steps = [
        Step("Softmax", ("x",), ("a",)),
        Step("Map", ("a",), ("b",), lines),
        Step("Map", ("b",), ("c",), lines),
        Step("Concat", ("c", "b"), ("y",)),
    ]
    network = Network("n", ("x",), ("y",), arrays, {}, {}, steps)
    plan = plan_arena(network)
    assert network.storage("b") == "a"  # nobody reads a afterwards
    assert network.storage("c") == "c"  # b is read once more
    assert plan.bytes == 2 * 256

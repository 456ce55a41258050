"""Flows code levels without loss, whatever they are, in as many bits as their likelihood says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runtime.codec.flow_cases import KINDS, Flow

from niwaki_runtime.codec import Codec, CodecError, LocalBitsBackCoder
from niwaki_runtime.codec.coder import Block
from niwaki_runtime.codec.container import unpack
from niwaki_runtime.codec.level_cells import LevelCells
from niwaki_runtime.codec.normal_grid import pop, push
from niwaki_runtime.codec.rounding import Rounding
from niwaki_runtime.codec.stack import Stack
from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import LocalBitsBack, Noise, NumpyBackend

pytest.importorskip("constriction")

SETTINGS = {"grid": 9, "at_once": 4}


def labels_of(flow: Flow, n: int) -> tuple[np.ndarray, ...]:
    return (np.arange(n) % 3,) if flow.asked else ()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 3, 30])
@pytest.mark.parametrize("settings", [{"grid": 7, "at_once": 1}, {"grid": 16, "at_once": 32}])
def test_nothing_is_lost(kind: str, n: int, settings: dict[str, int]) -> None:
    flow = Flow(kind)
    made, labels = LocalBitsBackCoder(flow.graphs, flow.program()), labels_of(flow, n)
    random = np.random.default_rng(n).integers(0, 17, (n, 12))
    for x in (flow.samples(n, np.arange(n) % 3), random):
        block = made.encode(x, labels, settings, lossy=False)
        assert (made.decode(block, n, labels, settings, lossy=False) == x).all()


@pytest.mark.parametrize("levels", [2, 3, 256, 1000])
def test_any_number_of_levels(levels: int) -> None:
    flow = Flow("affine", levels)
    made = LocalBitsBackCoder(flow.graphs, flow.program())
    x = np.random.default_rng(0).integers(0, levels, (9, 12))
    assert (made.decode(made.encode(x, (), SETTINGS, lossy=False), 9, (), SETTINGS, lossy=False) == x).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_length_is_the_bound(kind: str) -> None:
    flow, n = Flow(kind), 250
    x, labels = flow.samples(n, np.arange(n) % 3), labels_of(flow, n)
    made = LocalBitsBackCoder(flow.graphs, flow.program())
    given = {"x": made.samples(x).astype(np.float32), **({"class": labels[0]} if labels else {})}
    drawn = [flow.plan(flow.graphs, Noise(NumpyBackend(), seed, 0, n), given) for seed in range(8)]
    bound = np.mean(drawn) * n
    settings = made.settings(x, labels, block=n, lossy=False, quality=0)
    spent = made.encode(x, labels, settings, lossy=False).bytes * 8
    # Of values that the flow finds all but impossible a table says 2⁻²⁴ where the density says less.
    assert 0.95 * bound < spent < 1.02 * bound


def test_even_what_the_flow_bends_beyond_all_measure_comes_back() -> None:
    """An inverse that is none, slopes of any size: only bits are lost."""
    flow = Flow("affine")
    wild = {
        **flow.graphs,
        "move_1": lambda h: (h * 1e9, np.full(h.shape, -30.0)),
        "back_1": lambda z: (np.where(z > 0, np.inf, np.nan),),
    }
    made = LocalBitsBackCoder(wild, flow.program())
    x = flow.samples(20, np.zeros(20, int))
    assert (made.decode(made.encode(x, (), SETTINGS, lossy=False), 20, (), SETTINGS, lossy=False) == x).all()


def noisy(function: Callable[..., Any], seed: int) -> Callable[..., Any]:
    """As another machine would compute it: the last bits differ."""
    rng = np.random.default_rng(seed)
    return lambda *a: tuple(p * (1 + rng.normal(size=p.shape) * 1e-13) for p in function(*a))


@pytest.mark.parametrize("seed", range(5))
def test_another_machine_decodes_it(seed: int) -> None:
    flow = Flow("scaled")
    x = flow.samples(60, np.zeros(60, int))
    here = LocalBitsBackCoder(flow.graphs, flow.program())
    other = {name: noisy(graph, seed) for name, graph in flow.graphs.items()}
    there = LocalBitsBackCoder(other, flow.program())
    block = here.encode(x, (), SETTINGS, lossy=False)
    assert (there.decode(block, 60, (), SETTINGS, lossy=False) == x).all()
    assert np.array_equal(there.encode(x, (), SETTINGS, lossy=False).words, block.words)


@pytest.mark.parametrize("where", ["words", "mark", "short", "none", "other n"])
def test_a_wrong_block_is_found(where: str) -> None:
    flow = Flow("affine")
    made, x = LocalBitsBackCoder(flow.graphs, flow.program()), flow.samples(40, np.zeros(40, int))
    block = made.encode(x, (), SETTINGS, lossy=False)
    words = block.words.copy()
    words[3] ^= 1 << 7
    wrong = {
        "words": Block(words, block.mark, block.ties),
        "mark": Block(block.words, block.mark + 1, block.ties),
        "short": Block(block.words[:-2], block.mark, block.ties),
        "none": Block(block.words[:0], block.mark, b""),
        "other n": block,
    }[where]
    with pytest.raises(CodecError):
        made.decode(wrong, 41 if where == "other n" else 40, (), SETTINGS, lossy=False)


@pytest.mark.parametrize("step", [61, pytest.param(1, marks=pytest.mark.slow)])
def test_every_damaged_byte_costs_one_block_at_most(step: int) -> None:
    flow = Flow("classes")
    made = Codec(flow.program(), flow.graphs, "model-4")
    x = LocalBitsBackCoder(flow.graphs, flow.program()).samples(flow.samples(30, np.arange(30) % 3))
    data = made.encode(x, labels={"class": np.arange(30) % 3}, block=10).data
    header, _ = unpack(data)
    edges = np.cumsum([12 + int.from_bytes(data[4:8], "little"), *header.sizes])
    for place in range(0, len(data), step):
        broken = bytearray(data)
        broken[place] ^= 0x55
        found = made.decode(bytes(broken))
        hit = int(np.searchsorted(edges, place, side="right")) - 1
        lost = set(range(10 * hit, 10 * hit + 10)) if 0 <= hit < 3 else set()
        assert set(found.lost) == lost
        kept = [i for i in range(30) if i not in lost]
        assert np.allclose(found.x[kept], x[kept], atol=1e-6)


@pytest.mark.parametrize(
    "changed",
    [{}, {"grid": 6}, {"grid": 40}, {"at_once": 0}, {"at_once": 33}, {"grid": None}, {"grid": float("inf")}],
)
def test_settings_that_no_encoder_writes(changed: dict[str, Any]) -> None:
    flow = Flow("affine")
    with pytest.raises(CodecError):
        LocalBitsBackCoder(flow.graphs, flow.program()).check(SETTINGS | changed if changed else {})


def test_plans_that_contradict_themselves() -> None:
    plan = Flow("affine").plan
    for changed in ({"backs": ()}, {"moved": ("fffff",) * 4}, {"moved": ("x",) * 4}, {"step": 0.0}):
        with pytest.raises(CallError):
            dataclasses.replace(plan, **changed)  # type: ignore[arg-type]
    mask = np.arange(12) % 3 == 1
    assert (
        dataclasses.replace(plan, moved=(LocalBitsBack.pattern(mask),) * 4).places(0) == [1, 4, 7, 10]
    ).all()


@pytest.mark.parametrize("sure", [False, True])
@pytest.mark.parametrize("deviation", [0.1, 1.0, 7.3, 16.0, 900.0, 2.0**22])
def test_normals_on_the_integers(deviation: float, sure: bool) -> None:
    """What is pushed costs −log₂ of the density; popping undoes it; anything else comes back, too."""
    rng, n = np.random.default_rng(0), 4000
    means = rng.normal(size=n) * 50
    z = np.round(means + deviation * rng.normal(size=n)).astype(np.int64)
    if not sure:
        z[:5] = [10**9, -(10**9), 2**31 - 1, -(2**31), 0]
    at = np.round(means * 16).astype(np.int64), np.full(n, round(np.log2(deviation) * 256))
    stack = Stack(4)
    before = stack.bits
    push(stack, z, *at, sure=sure)
    spent = stack.bits - before - (0 if sure else 5 * 56)
    if deviation >= 1:
        variance = deviation**2 + 1 / 12  # of what is rounded
        want = np.log2(deviation * np.sqrt(2 * np.pi)) + variance / (2 * deviation**2) / np.log(2)
        assert spent / n == pytest.approx(want, abs=0.06)
    assert (pop(stack, *at, sure=sure) == z).all()
    assert stack.is_ground()


@pytest.mark.parametrize("grid", [7, 9, 16])
def test_levels_are_cells_however_narrow(grid: int) -> None:
    edges = np.sort(np.random.default_rng(0).normal(size=(16, 12)) * 2, axis=0)
    edges[3:9, 4] = edges[3, 4]  # levels that never were
    edges[:, 5] = 5.2
    cells = LevelCells(edges, grid, Rounding())
    levels = np.random.default_rng(1).integers(0, 17, (50, 12))
    stack = Stack(3000)
    found = cells.pop(stack, levels)
    assert (cells.levels(found) == levels).all()
    assert (cells.push(stack, found) == levels).all()
    assert stack.is_ground()

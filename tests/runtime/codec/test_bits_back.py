"""Coding: what comes back is what went in, and it costs what the evidence lower bound says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from runtime.codec.coding_cases import LEVELS, SIZE, model, samples, seen

from niwaki_runtime.codec.coder import Block
from niwaki_runtime.codec.errors import CodecError
from niwaki_runtime.codec.latents import LatentStack
from niwaki_runtime.codec.rounding import Rounding
from niwaki_runtime.codec.stack import Stack
from niwaki_runtime.codec.tables import frequencies
from niwaki_runtime.samplers import Noise, NumpyBackend
from niwaki_runtime.specs import Levels

pytest.importorskip("constriction")

GROUPS = [(1,), (12,), (4, 8), (2, 2, 2, 2, 2, 2), (1, 30)]


def coder(graphs: dict[str, Any], plan: Any, bits: int | np.ndarray, at_once: int = 4) -> LatentStack:
    each = np.broadcast_to(np.asarray(bits), (plan.latents,))
    return LatentStack(graphs, plan, (SIZE,), Levels(LEVELS), each, at_once)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("n", [1, 2, 3, 70])
@pytest.mark.parametrize("at_once", [1, 32])
def test_nothing_is_lost(groups: tuple[int, ...], n: int, at_once: int) -> None:
    graphs, plan = model(groups)
    x = samples(graphs, plan, n)
    made = coder(graphs, plan, 6, at_once)
    assert (made.decode(made.encode(x), n) == x).all()


def test_values_that_the_model_finds_impossible_are_coded_too() -> None:
    graphs, plan = model((4, 8))
    sure = {
        **graphs,
        "likelihood": lambda u: (
            np.where(np.arange(LEVELS) == 3, 0.0, -np.inf) + 0 * graphs["likelihood"](u)[0],
        ),
    }
    x = np.random.default_rng(0).integers(0, LEVELS, (9, SIZE))
    made = coder(sure, plan, 5)
    assert (made.decode(made.encode(x), 9) == x).all()


@pytest.mark.parametrize("groups", [(12,), (4, 8)])
def test_the_length_is_the_bound(groups: tuple[int, ...]) -> None:
    graphs, plan = model(groups)
    n = 1500
    x = samples(graphs, plan, n)
    bound = np.mean(
        [
            plan(graphs, Noise(NumpyBackend(), seed, 0, n), {"x": seen(x)}).mean() for seed in range(4)
        ]
    )  # fmt: skip
    narrow, said = coder(graphs, plan, 0).needs(x[:64])
    assert said.min() > 0
    block = coder(graphs, plan, np.ceil(narrow + 2).astype(int)).encode(x)
    assert block.bytes * 8 / n == pytest.approx(bound, rel=0.02)


def noisy(function: Callable[..., Any], seed: int) -> Callable[..., Any]:
    """As another machine would compute it: the last bits differ."""
    rng = np.random.default_rng(seed)
    return lambda *a: tuple(p * (1 + rng.normal(size=p.shape) * 1e-13) for p in function(*a))


@pytest.mark.parametrize("seed", range(5))
def test_another_machine_decodes_it(seed: int) -> None:
    graphs, plan = model((4, 8))
    x = samples(graphs, plan, 100)
    other = {name: noisy(graph, seed) for name, graph in graphs.items()}
    block = coder(graphs, plan, 7).encode(x)
    assert (coder(other, plan, 7).decode(block, 100) == x).all()
    assert np.array_equal(coder(other, plan, 7).encode(x).words, block.words)


def test_close_choices_are_written_down_and_followed() -> None:
    x = np.array([[0.5, 1.5 - 1e-9, 2.2], [3.0, -0.5 + 1e-9, 7.5]])
    making = Rounding()
    made = making(x, first=4, stage=1)
    told = Rounding(making.to_bytes())
    nudged = x + np.array([[-1e-12, 1e-12, 0], [0, -1e-12, 1e-12]])
    assert (told(nudged, first=4, stage=1) == made).all()
    assert making.to_bytes() != b""
    with pytest.raises(CodecError):
        Rounding(b"\x00" * 5)


def test_latents_that_say_nothing_need_not_be_written() -> None:
    graphs, plan = model((4, 8))

    def posterior(u: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, log_deviation = graphs["posterior"](u, x)
        spoken = np.arange(12) < 4
        return mean * spoken, log_deviation * spoken

    def likelihood(u: np.ndarray) -> tuple[np.ndarray]:
        return graphs["likelihood"](u * (np.arange(12) < 4))  # type: ignore[no-any-return]

    quiet = {"posterior": posterior, "likelihood": likelihood}
    x = samples(quiet, plan, 200)
    _, said = coder(quiet, plan, 0).needs(x)
    assert (said[4:] == 0).all()
    few, all_ = coder(quiet, plan, np.where(said > 0, 6, 0)), coder(quiet, plan, 6)
    assert (few.decode(few.encode(x), 200) == x).all()
    assert few.encode(x).bytes <= all_.encode(x).bytes


def test_lossy_latents_come_back_as_bins() -> None:
    graphs, plan = model((4, 8))
    x = samples(graphs, plan, 50)
    sizes, errors = [], []
    for bits in (0, 2, 5, 9):
        made = coder(graphs, plan, bits)
        block = made.approximate(x)
        back = made.reconstruct(block, 50)
        assert back.shape == x.shape
        sizes.append(block.bytes * 8 / 50)
        errors.append(np.abs(back - made.reconstruct(made.approximate(x), 50)).max())
    assert errors == [0.0] * 4
    assert sizes[0] <= 1.0  # nothing but the end of a stack
    for bits, size in zip((2, 5, 9), sizes[1:], strict=True):
        assert size == pytest.approx(bits * plan.latents, abs=1.0)


@pytest.mark.parametrize("where", ["words", "untouched", "short", "other"])
def test_a_wrong_block_is_found(where: str) -> None:
    graphs, plan = model((4, 8))
    x = samples(graphs, plan, 40)
    made = coder(graphs, plan, 6)
    block = made.encode(x)
    words = block.words.copy()
    words[3] ^= 1 << 7
    wrong = {
        "words": Block(words, block.mark, block.ties),
        "untouched": Block(block.words, block.mark + 1, block.ties),
        "short": Block(block.words[:-2], block.mark, block.ties),
        "other": Block(block.words[:0], 99999, b""),
    }[where]
    with pytest.raises(CodecError):
        made.decode(wrong, 40)


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_is_pushed_costs_its_probability_however_it_lies_in_memory(order: Any) -> None:
    rng = np.random.default_rng(0)
    f = np.asarray(frequencies(rng.integers(-40000, 0, (400, 9))), order=order)
    symbols = f.argmax(1)
    stack = Stack(4)
    before = stack.bits
    stack.push(symbols, f)
    assert stack.bits - before == pytest.approx(-np.log2(f.max(1) / 2.0**24).sum(), abs=3)
    assert (stack.pop(f) == symbols).all()


def test_popping_undoes_pushing() -> None:
    rng = np.random.default_rng(0)
    stack = Stack(20)
    f = frequencies(rng.integers(-20000, 0, (30, 9)))
    first = stack.pop(f)
    second = stack.pop_uniform(8, 5)
    assert not stack.is_ground()
    stack.push_uniform(second, 5)
    stack.push(first, f)
    assert stack.is_ground()

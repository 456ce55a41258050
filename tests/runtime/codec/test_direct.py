"""Direct coding of tokens: what comes back is what went in, in as many bits as the model says."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from runtime.codec.direct_cases import Network, codec, noisy, program, samples

from niwaki_runtime.codec import Codec, CodecError, DirectCoder
from niwaki_runtime.codec.coder import Block
from niwaki_runtime.errors import CallError
from niwaki_runtime.programs import BITS, Program
from niwaki_runtime.samplers import DirectCoding, Noise, NumpyBackend
from niwaki_runtime.specs import ConditionSpec, Levels, ValueSpec

pytest.importorskip("constriction")

KINDS = [(2, 7, 0), (17, 16, 0), (300, 5, 0), (64, 16, 10), (1024, 3, 4), (5, 1, 2)]
"""Tokens, tokens of a sample, classes."""


def labels_of(network: Network, n: int) -> tuple[np.ndarray, ...]:
    return (np.arange(n) % network.classes,) if network.classes else ()


@pytest.mark.parametrize(("tokens", "length", "classes"), KINDS)
@pytest.mark.parametrize("n", [0, 1, 3, 70])
@pytest.mark.parametrize("at_once", [1, 32])
def test_nothing_is_lost(tokens: int, length: int, classes: int, n: int, at_once: int) -> None:
    network = Network(tokens, classes)
    made = DirectCoder({"decode": network}, program(network, length))
    x, labels = np.random.default_rng(n).integers(0, tokens, (n, length)), labels_of(network, n)
    block = made.encode(x, labels, {"at_once": at_once}, lossy=False)
    if n:
        assert (made.decode(block, n, labels, {"at_once": at_once}, lossy=False) == x).all()


@pytest.mark.parametrize(("tokens", "length", "classes"), KINDS)
def test_the_length_is_what_the_model_says(tokens: int, length: int, classes: int) -> None:
    network = Network(tokens, classes)
    n = min(20_000, 4_000_000 // tokens) // length
    labels = labels_of(network, n)
    x = samples(network, length, labels[0] if labels else np.zeros(n, int))
    plan = program(network, length).sampler
    given = {"x": x, **({"class": labels[0]} if labels else {})}
    bits = plan({"decode": network}, Noise(NumpyBackend(), 0, 0, n), given)
    made = DirectCoder({"decode": network}, program(network, length))
    assert np.allclose(made.bits(x, labels), bits, rtol=1e-4)
    block = made.encode(x, labels, {"at_once": 64}, lossy=False)
    assert block.bytes * 8 == pytest.approx(bits.sum(), rel=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_another_machine_decodes_it(seed: int) -> None:
    network = Network(64, 10)
    here = DirectCoder({"decode": network}, program(network, 16))
    there = DirectCoder({"decode": noisy(network, seed)}, program(network, 16))
    labels = labels_of(network, 100)
    x = samples(network, 16, labels[0])
    block = here.encode(x, labels, {"at_once": 8}, lossy=False)
    assert (there.decode(block, 100, labels, {"at_once": 8}, lossy=False) == x).all()
    assert np.array_equal(there.encode(x, labels, {"at_once": 8}, lossy=False).words, block.words)


def test_tokens_that_the_model_finds_impossible_are_coded_too() -> None:
    network = Network(30)
    network.out[:, ::2] = -np.inf
    made = DirectCoder({"decode": network}, program(network, 4))
    network.out = np.where(np.isfinite(network.out), network.out, -1e30)
    x = np.random.default_rng(0).integers(0, 30, (9, 4))
    block = made.encode(x, (), {"at_once": 4}, lossy=False)
    assert (made.decode(block, 9, (), {"at_once": 4}, lossy=False) == x).all()


@pytest.mark.parametrize("where", ["words", "mark", "short", "none", "count", "other n"])
def test_a_wrong_block_is_found(where: str) -> None:
    network = Network(17)
    made = DirectCoder({"decode": network}, program(network, 16))
    x = samples(network, 16, np.zeros(40, int))
    block = made.encode(x, (), {"at_once": 8}, lossy=False)
    words = block.words.copy()
    words[3] ^= 1 << 7
    counted = block.words.copy()
    counted[0] -= 1
    wrong = {
        "words": Block(words, block.mark, block.ties),
        "mark": Block(block.words, block.mark ^ 1, block.ties),
        "short": Block(block.words[:-2], block.mark, block.ties),
        "none": Block(block.words[:0], block.mark, b""),
        "count": Block(counted, block.mark, block.ties),
        "other n": block,
    }[where]
    with pytest.raises(CodecError):
        made.decode(wrong, 41 if where == "other n" else 40, (), {"at_once": 8}, lossy=False)


@pytest.mark.parametrize("absent", [1, 7, 15])
def test_the_last_sample_may_end_early(absent: int) -> None:
    network = Network(17)
    x = samples(network, 16, np.zeros(40, int))
    x.reshape(-1)[-absent:] = -1
    made = codec(network, 16)
    assert np.array_equal(made.decode(made.encode(x, block=20).data).x, x)


@pytest.mark.parametrize("broken", ["inside", "a whole one", "too large", "too small", "floats"])
def test_what_are_no_tokens_is_refused(broken: str) -> None:
    x: Any = np.zeros((3, 16), int)
    if broken == "inside":
        x[1, 3] = -1
    if broken == "a whole one":
        x[2] = -1
    if broken == "too large":
        x[0, 0] = 17
    if broken == "too small":
        x[0, 0] = -2
    with pytest.raises(CallError):
        codec(Network(17), 16).encode(x * 1.0 if broken == "floats" else x)


@pytest.mark.parametrize("changed", [{"at_once": 0}, {"at_once": 10**6}, {"at_once": None}, {}])
def test_settings_that_no_encoder_writes(changed: dict[str, Any]) -> None:
    network = Network(17)
    with pytest.raises(CodecError):
        DirectCoder({"decode": network}, program(network, 16)).check(changed)


def test_ways_that_a_model_has_not() -> None:
    x = np.zeros((3, 16), int)
    with pytest.raises(CallError, match="without loss"):
        codec(Network(17), 16).encode(x, lossy=True)
    made, pictures = pictured()
    with pytest.raises(CallError, match="with loss only"):
        made.encode(pictures)
    with pytest.raises(CallError, match="one quality"):
        made.encode(pictures, lossy=True, quality=1)


def pictured() -> tuple[Codec, np.ndarray]:
    """Pictures whose tokens are the signs of their quarters; drawn as those signs."""
    network = Network(2, 3)
    spec = ValueSpec("image", (1, 4, 4), "CHW", Levels(9))
    plan = DirectCoding(4, 2, "decode", ("x", "class"), "read", "draw")

    def read(x: np.ndarray) -> tuple[np.ndarray]:
        return ((x.reshape(-1, 2, 2, 2, 2).mean((2, 4)) > 0).reshape(-1, 4).astype(np.int64),)

    def draw(tokens: np.ndarray) -> tuple[np.ndarray]:
        return ((2.0 * tokens.reshape(-1, 1, 2, 2) - 1.0).repeat(2, 2).repeat(2, 3),)

    asked = {"x": ConditionSpec(spec), "class": ConditionSpec.label(3)}
    graphs = {"decode": network, "read": read, "draw": draw}
    x = np.random.default_rng(0).integers(0, 9, (50, 1, 4, 4)) / 4.0 - 1.0
    return Codec(Program(plan, asked, BITS), graphs, "model-3"), x


def test_pictures_by_their_tokens() -> None:
    made, x = pictured()
    y = np.arange(50) % 3
    found = made.decode(made.encode(x, lossy=True, labels={"class": y}, block=20).data)
    quarters = np.sign(x.reshape(-1, 1, 2, 2, 2, 2).mean((3, 5)))
    quarters[quarters == 0] = -1
    assert not found.lossless
    assert np.array_equal(found.x, quarters.repeat(2, 2).repeat(2, 3))
    # What is not given is chosen: no class makes the file shorter.
    chosen = made.encode(x, lossy=True).payload
    each = [made.encode(x, lossy=True, labels={"class": np.full(50, c)}).payload for c in range(3)]
    assert chosen <= min(each)


def test_a_plan_needs_both_ways_of_a_picture() -> None:
    with pytest.raises(CallError, match="both"):
        DirectCoding(4, read="encoder")
    plan = dataclasses.replace(program(Network(4), 3).sampler, length=5)
    with pytest.raises(CallError, match="writes tokens"):
        DirectCoder({"decode": Network(4)}, Program(plan, program(Network(4), 3).inputs, BITS))

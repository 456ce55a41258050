"""Coded files (`.nwk`), read by a small model of plain functions."""

from __future__ import annotations

import json
import random
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.mutations import damage_bytes, damage_document
from fuzzing.target import target

LEVELS, LATENTS, SIZE = 17, 6, 12
_START = struct.Struct("<4sII")
_BLOCK = struct.Struct("<III")


@cache
def _codec() -> Any:
    """Of a model with two groups of latents that is conditioned on one of five classes."""
    from niwaki_runtime.codec import Codec
    from niwaki_runtime.programs import Program
    from niwaki_runtime.samplers import BitsBack
    from niwaki_runtime.specs import ConditionSpec, ValueSpec
    from niwaki_runtime.specs.values import Levels

    rng = np.random.default_rng(0)
    w, v = rng.normal(size=(LATENTS, SIZE, LEVELS)), rng.normal(size=(SIZE, LATENTS)) * 0.2
    by_class = rng.normal(size=(5, 1, LEVELS))

    def likelihood(u: np.ndarray, y: np.ndarray) -> tuple[np.ndarray]:
        return (np.einsum("nu,usk->nsk", u, w) + by_class[y],)

    def posterior(u: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = x.reshape(len(x), -1) @ v
        mean[:, 2:] += 0.1 * u[:, :1]
        return mean, np.full_like(mean, -1.5)

    spec = ValueSpec("image", (1, 3, 4), "CHW", Levels(LEVELS))
    inputs = {"x": ConditionSpec(spec), "class": ConditionSpec.label(5)}
    program = Program(BitsBack(groups=(2, 4), conditions=("x", "class")), inputs, ValueSpec("vector"))
    return Codec(program, {"posterior": posterior, "likelihood": likelihood}, "a model")


def _coded(folder: Path) -> dict[str, bytes]:
    x = np.random.default_rng(1).integers(0, LEVELS, (20, 1, 3, 4)) * (2.0 / (LEVELS - 1)) - 1.0
    y, codec = {"class": np.arange(20) % 5}, _codec()
    return {
        "whole.nwk": codec.encode(x, labels=y).data,
        "named.nwk": codec.encode(x, labels=y, names=[f"{i}.png" for i in range(20)], block=6).data,
        "lossy.nwk": codec.encode(x, labels=y, lossy=True, block=7).data,
    }


def _damage(data: bytes, rng: random.Random) -> bytes:
    """Other bytes; or with every checksum right again, another header or other blocks."""
    kind = rng.random()
    if kind < 0.3:
        return damage_bytes(data, rng)
    magic, length, _ = _START.unpack_from(data)
    header = json.loads(zlib.decompress(data[_START.size : _START.size + length]))
    at, blocks = _START.size + length, []
    for size in header["sizes"]:
        blocks.append(data[at : at + size])
        at += size
    if kind < 0.65:
        header = damage_document(header, rng)
        if isinstance(header, dict) and rng.random() < 0.5:
            header[rng.choice(["n", "block", "at_once"])] = rng.choice([0, -1, 1, 2, 32, 10**5, 10**9, 2**63])
    else:
        blocks = [_other_block(block, rng) for block in blocks]
        header |= {"sizes": [len(b) for b in blocks], "checks": [zlib.crc32(b) for b in blocks]}
    text = zlib.compress(json.dumps(header).encode())
    sizes = struct.pack("<II", len(text), zlib.crc32(text))
    return b"".join([magic, sizes, text, *blocks, text, sizes, magic[::-1]])


def _other_block(block: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return damage_bytes(block, rng)
    head = list(_BLOCK.unpack_from(block))
    head[rng.randrange(3)] = rng.choice([0, 1, 9, 13, 2**31, 2**32 - 1, rng.randrange(400)])
    return _BLOCK.pack(*head) + block[_BLOCK.size :]


@target("coded", make=_coded, damage=_damage, share=1.5, needs=("constriction",))
def _read_coded(path: Path) -> None:
    from niwaki.uses.outcome import Outcome

    found = _codec().decode(path.read_bytes())
    assert found.x.shape[1:] == (1, 3, 4)
    assert np.isfinite(found.x).all(), "a decoded sample is no number"
    kept = min(len(found.x), 3)
    Outcome(x=found.x[:kept], spec=found.spec, names=found.names[:kept]).write(path.parent / "back")

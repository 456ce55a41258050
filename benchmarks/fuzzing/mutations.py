"""Damage to a valid input: bytes flipped, cut, swapped, said twice; other values in a document."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["damage_bytes", "damage_document"]

EDGES = (
    b"\x00\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00\x00\x00\x80",
    b"\x01\x00\x00\x00",
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3.5, -0.0, 1e308, 1e-308, 2**31, 2**63, 10**30, "", " ", "x", "sample",
    "é" * 40, "../../escape", "/absolute", "a\x00b", "nan", "1e9", "%s{0}", [], {}, [[]], [0], [1, 2, 3],
    {"x": {}}, {"name": "x"},
)  # fmt: skip


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """One to four kinds of damage, one after another."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        rng.choice(_BYTES)(found, rng)
    return bytes(found)


def _place(data: Sequence[Any], rng: random.Random) -> int:
    """Heads decide how the rest is read, and are met half of the time."""
    return rng.randrange(min(len(data), 64) if rng.random() < 0.5 else len(data)) if data else 0


def _flip(data: bytearray, rng: random.Random) -> None:
    if data:
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: random.Random) -> None:
    if data:
        data[_place(data, rng)] = rng.choice((0, 1, 9, 10, 32, 34, 45, 48, 57, 127, 128, 255))


def _edge(data: bytearray, rng: random.Random) -> None:
    at = _place(data, rng)
    data[at : at + 4] = rng.choice(EDGES)


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[_place(data, rng) :]


def _drop(data: bytearray, rng: random.Random) -> None:
    at = _place(data, rng)
    del data[at : at + rng.randrange(1, 40)]


def _insert(data: bytearray, rng: random.Random) -> None:
    at = _place(data, rng)
    data[at:at] = rng.randbytes(rng.randrange(1, 20))


def _again(data: bytearray, rng: random.Random) -> None:
    at = _place(data, rng)
    data[at:at] = data[at : at + rng.randrange(1, 200)]


def _swap(data: bytearray, rng: random.Random) -> None:
    a, b, n = _place(data, rng), _place(data, rng), rng.randrange(1, 16)
    data[a : a + n], data[b : b + n] = data[b : b + n], data[a : a + n]


_BYTES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip, _set, _edge, _cut, _drop, _insert, _again, _swap,
)  # fmt: skip


def damage_document(document: Any, rng: random.Random) -> Any:
    """One to three values of a tree of dictionaries and lists exchanged, dropped, doubled or renamed."""
    found = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        inner = [node for node in _nodes(found) if node]
        if not inner:
            return rng.choice(VALUES)
        node = rng.choice(inner)
        key = rng.choice(list(node) if isinstance(node, dict) else list(range(len(node))))
        act = rng.randrange(5)
        if act == 0:
            del node[key]
        elif act == 1 and isinstance(node, dict):
            node[rng.choice(("x", "", "name", "é", f"{key}s"))] = node.pop(key)
        elif act == 2:
            node[key] = copy.deepcopy(rng.choice(inner))
        elif act == 3 and isinstance(node[key], int | float) and not isinstance(node[key], bool):
            node[key] = rng.choice(
                (-node[key], node[key] * 1000, node[key] + 1, float(node[key]), str(node[key]))
            )
        else:
            node[key] = copy.deepcopy(rng.choice(VALUES))
    return found


def _nodes(document: Any) -> list[Any]:
    if isinstance(document, dict):
        return [document, *(n for value in document.values() for n in _nodes(value))]
    if isinstance(document, list):
        return [document, *(n for value in document for n in _nodes(value))]
    return []

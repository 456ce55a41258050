"""What a kind of file is to the fuzzer: valid examples, how they are damaged, and who reads them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzzing.mutations import damage_bytes, damage_document

__all__ = ["TARGETS", "Target", "beside", "damage_json", "inputs", "target"]

Make = Callable[[Path], dict[str, bytes]]


@dataclass(frozen=True)
class Target:
    """make: writes what lies beside the file that is damaged, gives valid examples by name
    read:    reads the damaged file, as a user's call would
    damage:  of an example
    share:   of all inputs; the slow ones get fewer
    seconds: that one input may take
    """

    name: str
    make: Make
    read: Callable[[Path], Any]
    damage: Callable[[bytes, random.Random], bytes] = damage_bytes
    share: float = 1.0
    seconds: float = 20.0
    needs: tuple[str, ...] = field(default=())


TARGETS: dict[str, Target] = {}


def target(name: str, **settings: Any) -> Callable[[Callable[[Path], Any]], Callable[[Path], Any]]:
    """Decorator of a function that reads such a file."""

    def enter(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
        TARGETS[name] = Target(name, read=read, **settings)
        return read

    return enter


def damage_json(data: bytes, rng: random.Random) -> bytes:
    """A JSON document with other values, or (one in five) other bytes."""
    if rng.random() < 0.2:
        return damage_bytes(data, rng)
    return json.dumps(damage_document(json.loads(data), rng)).encode()


def beside(path: Path, name: str) -> None:
    """The undamaged file `name` of the folder `model`, next to the damaged one."""
    if not (path.parent / name).exists():
        (path.parent / name).hardlink_to(path.parents[1] / "model" / name)


def inputs(target: Target, examples: dict[str, bytes], seed: int) -> Iterator[tuple[int, str, bytes]]:
    """Damaged inputs without end: number, name of the example, bytes. The number alone says what comes."""
    names, number = sorted(examples), 0
    while True:
        rng = random.Random(f"{seed}/{target.name}/{number}")
        name = rng.choice(names)
        yield number, name, target.damage(examples[name], rng)
        number += 1

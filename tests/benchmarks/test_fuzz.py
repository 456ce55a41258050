"""A slice of the fuzzing: damaged files of every kind give a sentence; the fuzzer finds what it is for."""

from __future__ import annotations

import importlib.util
import itertools
import json
import random
import time
from dataclasses import replace
from pathlib import Path

import pytest
from fuzz import fault_of
from fuzzing.guard import within
from fuzzing.mutations import damage_bytes, damage_document
from fuzzing.targets import TARGETS, Target, inputs

from niwaki_runtime.errors import CallError

LIGHT = [
    name
    for name, target in TARGETS.items()
    if target.share >= 1.0 and all(map(importlib.util.find_spec, target.needs))
]
EACH = 20


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all kinds of files: some are made from the same bundle."""
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", LIGHT)
def test_damaged_files_give_a_sentence(name: str, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIWAKI_CACHE", str(room / "cache"))
    target = replace(TARGETS[name], seconds=60)
    examples = target.make(room)
    own = room / name
    own.mkdir()
    for number, example, data in itertools.islice(inputs(target, examples, seed=1), EACH):
        path = own / example
        path.unlink(missing_ok=True)
        path.write_bytes(data)
        assert fault_of(target, path, room) == "", number


def test_the_same_number_is_the_same_input() -> None:
    target = TARGETS["csv"]
    examples = target.make(Path())
    first, again = (list(itertools.islice(inputs(target, examples, seed=3), 30)) for _ in range(2))
    assert first == again
    assert first != list(itertools.islice(inputs(target, examples, seed=4), 30))


def test_damage_is_damage() -> None:
    data = json.dumps({"a": [1, 2, {"b": "text"}], "c": None}).encode()
    for number in range(200):
        rng = random.Random(number)
        assert damage_bytes(data, rng) != data or number  # a flip and its like may meet
        damage_document(json.loads(data), rng)
    assert sum(damage_bytes(data, random.Random(i)) != data for i in range(200)) > 190


def _raises(error: Exception) -> object:
    def read(path: Path) -> None:
        raise error

    return read


@pytest.mark.parametrize(
    ("read", "fault"),
    [
        (lambda path: None, ""),
        (_raises(CallError("that is no picture")), ""),
        (_raises(CallError("one\ntwo")), ""),  # a message is always made one line
        (_raises(CallError("")), "no sentence"),
        (_raises(CallError("x" * 2000)), ""),  # and cut in its middle
        (_raises(KeyError("x")), "KeyError"),
        (_raises(MemoryError()), "MemoryError"),
        (_raises(SystemExit(3)), "left the process"),
        (lambda path: time.sleep(5), "longer than"),
    ],
)  # fmt: skip
def test_what_counts_as_a_fault(read: object, fault: str, tmp_path: Path) -> None:
    target = Target("x", make=lambda folder: {}, read=read, seconds=0.2)  # type: ignore[arg-type]
    found = fault_of(target, tmp_path / "x", tmp_path)
    assert fault in found
    assert bool(found) == bool(fault)


def test_time_is_up_only_inside(tmp_path: Path) -> None:
    with within(0.05, tmp_path):
        pass
    time.sleep(0.1)

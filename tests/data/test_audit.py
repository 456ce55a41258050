"""What the audit must say, on data with planted faults."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from niwaki.data import Audit, Finding
from niwaki.data.audit import SHOWN, balance, duplicates, shortened, value_range


def name(i: int) -> str:
    return f"sample {i}"


def test_copies_are_counted_and_named() -> None:
    hashes = [b"a", b"b", b"a", b"c", b"a", b"b"]
    (found,) = duplicates(hashes, np.zeros(6, int), None, name)
    assert found.kind == "duplicates"
    assert found.text.startswith("3 of 6 samples repeat")
    assert found.items == ("sample 0 = sample 2 = sample 4", "sample 1 = sample 5")


def test_no_copies_no_finding() -> None:
    assert duplicates([b"a", b"b"], np.zeros(2, int), np.zeros(2, int), name) == []


def test_copies_with_two_labels() -> None:
    found = duplicates([b"a", b"a", b"b", b"b"], np.zeros(4, int), np.array([0, 1, 2, 2]), name)
    (conflict,) = [f for f in found if f.kind == "label conflict"]
    assert conflict.items == ("sample 0 (0) ≠ sample 1 (1)",)


def test_a_leak_would_be_an_error() -> None:
    found = duplicates([b"a", b"b", b"a"], np.array([0, 1, 2]), None, name)
    (leak,) = [f for f in found if f.kind == "leak"]
    assert leak.level == "error"
    assert leak.items == ("sample 0", "sample 2")


def test_absent_and_rare_classes() -> None:
    names = ("cat", "dog")
    found = balance({"train": [500, 20], "validation": [10, 0], "test": [9, 1]}, names)
    assert [(f.level, f.items) for f in found] == [("warning", ("dog",)), ("warning", ("dog",))]
    assert "validation" in found[0].text
    assert "500 training samples" in found[1].text
    assert balance({"train": [50, 20], "validation": [1, 1], "test": [1, 1]}, names) == []


def test_values() -> None:
    full = torch.arange(17, dtype=torch.uint8)
    assert value_range(full, 17) == ([], {"minimum": 0, "maximum": 16, "mean": 8.0})
    (half,), _ = value_range(full, 256)  # digits taken for 256 levels would be nearly black
    assert half.kind == "value range"
    (constant,), _ = value_range(torch.full((3, 3), 0.5), 256)
    assert "0.5" in constant.text


def test_the_gravest_comes_first_and_json_holds_all() -> None:
    audit = Audit(
        (Finding("note", "a", "one"), Finding("error", "b", "two", ("x",)), Finding("warning", "c", "three"))
    )
    assert [f.level for f in audit.findings] == ["error", "warning", "note"]
    assert audit.worst == "error"
    assert Audit().worst is None
    record = json.loads(json.dumps(audit.to_json()))
    assert record["findings"][0] == {"level": "error", "kind": "b", "text": "two", "items": ["x"]}


@pytest.mark.parametrize("n", [0, SHOWN, SHOWN + 1, 500])
def test_long_lists_end_in_a_count(n: int) -> None:
    items = shortened(map(str, range(n)))
    if n <= SHOWN:
        assert len(items) == n
    else:
        assert len(items) == SHOWN + 1
        assert items[-1] == f"… and {n - SHOWN} more"

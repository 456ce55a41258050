"""A batch is a mapping of columns, one row per sample."""

from __future__ import annotations

import pytest
import torch

from niwaki.core.contract import Batch, CallError


def batch() -> Batch:
    return Batch(
        {"x": torch.arange(6.0).reshape(3, 2), "class": torch.arange(3), "caption": None},
        index=torch.tensor([5, 2, 9]),
    )


def test_it_holds_what_it_was_given_and_nothing_else() -> None:
    b = batch()
    assert list(b) == ["x", "class"], "None is left out"
    assert len(b) == 3, "samples, not columns"
    assert torch.equal(b.x, b["x"])
    assert "caption" not in b
    assert b.get("caption") is None
    assert b.get("class") is b["class"]
    with pytest.raises(CallError, match="no column 'clas'; did you mean 'class'"):
        b["clas"]


def test_a_change_reaches_every_tensor_the_index_too() -> None:
    b = batch()
    half = b.map(lambda t: t[:2])
    assert {name: len(value) for name, value in half.items()} == {"x": 2, "class": 2}
    assert half.index is not None
    assert half.index.tolist() == [5, 2]
    assert len(b) == 3, "the batch itself stays"
    assert Batch({"x": b.x}).map(lambda t: t + 1).index is None


def test_columns_are_replaced_added_and_taken_out() -> None:
    b = batch()
    other = b.replaced(x=b.x + 1, caption=torch.zeros(3, 4), **{"class": None})
    assert list(other) == ["x", "caption"]
    assert torch.equal(other.x, b.x + 1)
    assert other.index is b.index
    assert list(b) == ["x", "class"]

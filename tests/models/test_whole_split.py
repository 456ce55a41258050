"""The training split is read once, in its own order, however its batches are cut."""

from __future__ import annotations

import pytest
import torch

from niwaki.core.contract import Batch, CallError, DataSpec
from niwaki.data import Feeder, Split
from niwaki.models.whole_split import read_split


@pytest.mark.parametrize("size", [1, 4, 7, 11, 30])
def test_every_sample_stands_at_its_position(size: int) -> None:
    x = torch.arange(22).reshape(11, 2)
    split = Split.of(DataSpec.of("text", (2,), levels=22), x)
    feeder = Feeder(split, size, seed=3)
    assert torch.equal(read_split(feeder.batch, lambda batch: batch.x), x)


def test_batches_that_do_not_say_what_they_hold_are_refused() -> None:
    with pytest.raises(CallError, match="do not say which samples they hold"):
        read_split(lambda k: Batch({"x": torch.zeros(2, 3)}), lambda batch: batch.x)

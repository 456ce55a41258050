"""The stream of batches: every sample once per epoch, the same on every call, divided between ranks."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import Column, Feeder, Split
from niwaki.data.feeder import permutation


def numbered(n: int, **others: int) -> Split:
    """Sample i holds the value i and is of class 7 i; row i of other, unpaired, columns holds 1000 + i."""
    x = torch.arange(n, dtype=torch.float32).unsqueeze(1)
    spec = DataSpec.of("vector", (1,), low=0, high=2000, classes=max(7 * n, 1))
    split = Split.of(spec, x, y=torch.arange(n) * 7)
    for name, rows in others.items():
        column = Column(spec.x, 1000 + torch.arange(rows, dtype=torch.float32).unsqueeze(1), paired=False)
        split.columns[name] = column
    return split


def seen(feeder: Feeder, batches: range) -> list[int]:
    return [int(v) for k in batches for v in feeder.batch(k).x.flatten()]


@pytest.mark.parametrize(("n", "batch"), [(10, 5), (10, 3), (3, 7), (1, 4), (64, 64)])
def test_every_epoch_holds_every_sample_once(n: int, batch: int) -> None:
    stream = seen(Feeder(numbered(n), batch, seed=3), range(3 * n))
    for epoch in range(len(stream) // n):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_batches_are_a_pure_function_of_seed_and_k() -> None:
    split = numbered(37)
    forward = Feeder(split, 8, seed=11)
    in_turn = [forward.index(k) for k in range(40)]
    other = Feeder(split, 8, seed=11)  # a resumed run: asked out of order, with far jumps between
    for k in [39, 0, 17, 3, 38, 1]:
        assert torch.equal(other.index(k), in_turn[k])
    assert not torch.equal(Feeder(split, 8, seed=12).index(0), in_turn[0])
    assert not torch.equal(in_turn[0], Feeder(split, 37, seed=11).index(1)[:8])  # epochs differ in order


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_stream_of_one(world: int) -> None:
    split = numbered(29)
    alone = Feeder(split, 4 * world, seed=5)
    ranks = [Feeder(split, 4, seed=5, rank=r, world=world) for r in range(world)]
    for k in range(25):
        assert torch.equal(torch.cat([r.index(k) for r in ranks]), alone.index(k))


def test_a_batch_keeps_samples_and_labels_together() -> None:
    batch = Feeder(numbered(50), 16, seed=0).batch(2)
    assert batch.index is not None
    assert torch.equal(batch["class"], batch.x.flatten().long() * 7)
    assert torch.equal(batch.index, batch.x.flatten().long())


def test_the_second_domain_is_shuffled_by_itself() -> None:
    feeder = Feeder(numbered(20, other=12), 6, seed=1)
    batches = [feeder.batch(k) for k in range(20)]
    x_b = torch.cat([b["other"] for b in batches]).flatten()
    assert sorted(x_b[:12].tolist()) == [1000.0 + i for i in range(12)]  # its own epochs of 12
    pairs = Counter(zip(torch.cat([b.x for b in batches]).flatten().tolist(), x_b.tolist(), strict=True))
    assert len(pairs) > 60  # 120 draws; tied streams would make 60 pairs at most (the lcm of 20 and 12)


def test_every_unpaired_column_has_a_stream_of_its_own() -> None:
    """Two of the same length are not in step, and neither is changed by the other or by the samples."""
    feeder = Feeder(numbered(20, a=16, b=16), 8, seed=1)
    batches = [feeder.batch(k) for k in range(40)]
    a, b = (torch.cat([batch[name] for batch in batches]).flatten() for name in ("a", "b"))
    for column in (a, b):
        for epoch in column.split(16):
            assert sorted(epoch.tolist()) == [1000.0 + i for i in range(16)]
    assert len(set(zip(a.tolist(), b.tolist(), strict=True))) > 150  # of 256; streams in step make 16
    alone = Feeder(numbered(31, a=16), 8, seed=1)
    assert torch.equal(torch.cat([alone.batch(k)["a"] for k in range(40)]).flatten(), a)
    resumed = Feeder(numbered(20, a=16, b=16), 8, seed=1)
    assert torch.equal(resumed.batch(33)["b"], batches[33]["b"]), "asked out of order, as a resumed run does"


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_streams_of_unpaired_columns(world: int) -> None:
    split = numbered(29, other=13)
    alone = Feeder(split, 4 * world, seed=5)
    ranks = [Feeder(split, 4, seed=5, rank=r, world=world) for r in range(world)]
    for k in range(25):
        whole = torch.cat([r.batch(k)["other"] for r in ranks])
        assert torch.equal(whole, alone.batch(k)["other"])


def test_all_orders_are_equally_likely() -> None:
    """χ² of the 24 orders of four samples over 4800 epochs; 58.6 is the 0.9999 quantile."""
    counts = Counter(tuple(permutation(4, seed=0, epoch=e).tolist()) for e in range(4800))
    statistic = sum((counts[p] - 200) ** 2 / 200 for p in itertools.permutations(range(4)))
    assert statistic < 58.6


def test_the_order_is_fixed_for_all_time() -> None:
    """The words of Philox4x64 and a stable sort define it: a change would break every resumed run."""
    words = np.random.Philox(key=np.array([7, 2], dtype=np.uint64)).random_raw(6)
    by_hand = sorted(range(6), key=lambda i: int(words[i]))
    assert permutation(6, seed=7, epoch=2).tolist() == by_hand
    assert permutation(8, seed=0, epoch=0).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]


def test_bad_calls() -> None:
    with pytest.raises(CallError, match="empty split"):
        Feeder(numbered(0), 4, seed=0)
    with pytest.raises(CallError, match="empty split"):
        Feeder(numbered(4, other=0), 4, seed=0)
    with pytest.raises(CallError, match="at least one sample"):
        Feeder(numbered(4), 0, seed=0)
    with pytest.raises(CallError, match=r"rank 2 lies outside 0 … 1"):
        Feeder(numbered(4), 2, seed=0, rank=2, world=2)
    with pytest.raises(CallError, match="counted from 0"):
        Feeder(numbered(4), 2, seed=0).batch(-1)

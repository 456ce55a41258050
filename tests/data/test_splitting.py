"""The division by content hash: local, stable, faithful to the fractions, deaf to order and to copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.data.splitting import by_hash, hash_samples, shares

FRACTIONS = (0.7, 0.1, 0.2)


def some_hashes(n: int) -> list[bytes]:
    return hash_samples(torch.arange(n, dtype=torch.int64).unsqueeze(1))


def test_a_samples_split_depends_on_that_sample_alone() -> None:
    hashes = some_hashes(500)
    whole = by_hash(hashes, FRACTIONS, seed=0)
    order = np.random.default_rng(0).permutation(500)[:173]
    assert np.array_equal(by_hash([hashes[i] for i in order], FRACTIONS, seed=0), whole[order])


def test_growing_a_fraction_moves_no_sample_out_of_it() -> None:
    hashes = some_hashes(2000)
    small, large = by_hash(hashes, (0.5, 0.25, 0.25), 0), by_hash(hashes, (0.6, 0.2, 0.2), 0)
    assert (large[small == 0] == 0).all()


def test_the_shares_meet_the_fractions() -> None:
    """Within four standard deviations of the binomial."""
    n = 20_000
    counts = np.bincount(by_hash(some_hashes(n), FRACTIONS, seed=1), minlength=3)
    for count, p in zip(counts, FRACTIONS, strict=True):
        assert abs(count - n * p) < 4 * np.sqrt(n * p * (1 - p))


def test_seeds_divide_independently() -> None:
    hashes = some_hashes(20_000)
    a, b = by_hash(hashes, FRACTIONS, 0), by_hash(hashes, FRACTIONS, 1)
    agree = sum(p * p for p in FRACTIONS)  # 0.54
    assert abs((a == b).mean() - agree) < 4 * np.sqrt(agree * (1 - agree) / 20_000)


def test_hashes_tell_bytes_apart_and_nothing_else() -> None:
    x = torch.tensor([[1, 2], [1, 3], [1, 2]], dtype=torch.uint8)
    a, b, c = hash_samples(x)
    assert a == c != b
    assert hash_samples(x.t().contiguous().t()) == [a, b, c]  # the memory's layout is no content


@pytest.mark.parametrize("total", [3, 4, 7, 28, 60, 101])
def test_whole_things_are_divided_completely(total: int) -> None:
    parts = shares(total, FRACTIONS)
    assert sum(parts) == total
    assert min(parts) >= 1
    assert (
        all(abs(p - f * total) < 1 + 1e-9 or p == 1 for p, f in zip(parts, FRACTIONS, strict=True))
        or total < 10
    )


def test_fewer_things_than_parts() -> None:
    with pytest.raises(CallError, match="2 cannot be divided into 3"):
        shares(2, FRACTIONS)

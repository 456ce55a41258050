"""Float32 blocks decide as float64 does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from niwaki.evaluation.pairwise.sweep import Pairs


def exact(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return ((x[:, None] - y[None]) ** 2).sum(2)


def near_duplicates(n: int, d: int, seed: int) -> np.ndarray:
    """Far from the origin, in groups closer together than float32 tells apart there."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n // 4, d)) + 100 * rng.normal(size=d)
    return np.repeat(centres, 4, 0) + 1e-5 * rng.normal(size=(n // 4 * 4, d))


@pytest.mark.parametrize("block", [16, 33, 4096])
@pytest.mark.parametrize(
    "make", [near_duplicates, lambda n, d, s: np.random.default_rng(s).normal(size=(n, d))]
)
def test_nearest_are_those_of_float64(block: int, make: object) -> None:
    x, y = make(96, 24, 0), make(64, 24, 1)
    found = Pairs(torch.from_numpy(x), torch.from_numpy(y), block=block).nearest(5)
    truth = np.sort(exact(x, y), axis=1)[:, :5]
    np.testing.assert_allclose(found.d2.numpy(), truth, rtol=1e-10)
    own = Pairs(torch.from_numpy(x), block=block).nearest(3)
    d2 = exact(x, x)
    np.fill_diagonal(d2, np.inf)
    np.testing.assert_allclose(own.d2.numpy(), np.sort(d2, axis=1)[:, :3], rtol=1e-10)
    assert not (own.index == torch.arange(96)[:, None]).any()


def test_many_copies_do_not_hide_the_nearest() -> None:
    """More candidates at the same float32 distance than are kept: those rows are done in full."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=32) * 50
    y = base + 1e-6 * rng.normal(size=(60, 32))
    x = base + 1e-6 * rng.normal(size=(8, 32))
    found = Pairs(torch.from_numpy(x), torch.from_numpy(y)).nearest(2)
    np.testing.assert_array_equal(found.index.numpy(), np.argsort(exact(x, y), axis=1)[:, :2])


@pytest.mark.parametrize("strict", [True, False])
def test_decisions_at_the_threshold_are_exact(strict: bool) -> None:
    """Radii equal to distances, bit for bit: < and ≤ must tell them apart."""
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.normal(size=(40, 16)) + 30)
    y = torch.from_numpy(rng.normal(size=(50, 16)) + 30)
    pairs = Pairs(x, y, block=13)
    d2 = torch.stack([pairs.exact(torch.full((50,), i), torch.arange(50)) for i in range(40)])
    radius2 = d2.sort(1).values[:, 7]
    truth = d2 < radius2[:, None] if strict else d2 <= radius2[:, None]
    for block in pairs.blocks():
        found = pairs.inside(block, radius2[block.rows, None], strict)
        assert torch.equal(found, truth[block.rows, block.columns])


def test_training_settings_do_not_reach_distances() -> None:
    """`medium` lets products run in bf16 on a CPU that has it; a distance would keep two digits."""
    torch.set_float32_matmul_precision("medium")
    try:
        x = np.random.default_rng(0).normal(size=(200, 512))
        pairs = Pairs(torch.from_numpy(x))
        for block in pairs.blocks():
            d2 = exact(x[block.rows], x[block.columns])
            np.fill_diagonal(d2, np.inf)
            finite = np.isfinite(d2)
            assert (np.abs(block.d2.numpy()[finite] - d2[finite]) <= block.error.numpy()[finite]).all()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")

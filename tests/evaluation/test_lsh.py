from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.lsh import _Hasher, lsh_precision_recall


def gaussians(seed: int, n: int, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d))


def buckets(x: np.ndarray, real: np.ndarray, width: float, tables: int, hashes: int) -> list[list[tuple]]:
    """⌊(a·x)/w + b⌋ of every sample in every table, as tuples."""
    rng = np.random.default_rng([0, 0x6C7368])
    a = rng.normal(size=(x.shape[1], tables * hashes))
    b = rng.random(tables * hashes).astype(np.float32).astype(np.float64)
    cells = np.floor((x - real.mean(0)) @ a / width + b).astype(int)
    return [[tuple(row[t * hashes : (t + 1) * hashes]) for t in range(tables)] for row in cells]


def test_equals_sets_of_buckets() -> None:
    x, y = gaussians(0, 150, 110, 5)
    tables, hashes = 6, 4
    found = lsh_precision_recall(x, y, tables=tables, hashes=hashes)
    of_x, of_y = (buckets(s, x, found.width, tables, hashes) for s in (x, y))
    for result, ours, others in ((found.precision, of_y, of_x), (found.recall, of_x, of_y)):
        held = [{row[t] for row in others} for t in range(tables)]
        slow = [any(row[t] in held[t] for t in range(tables)) for row in ours]
        np.testing.assert_array_equal(result.per_sample, slow)
        assert result.value == np.mean(slow)
    alone = [
        any(other[t] == row[t] for j, other in enumerate(of_x) if j != i for t in range(tables))
        for i, row in enumerate(of_x)
    ]
    assert found.precision.floor == np.mean(alone)


@pytest.mark.slow
def test_two_samples_meet_as_often_as_the_theory_says() -> None:
    """Datar et al., section 3.2: p(c) = 1 − 2Φ(−w/c) − 2c/(√(2π)w)·(1 − exp(−w²/2c²))."""
    width, distance = 1.5, 1.0
    real = np.array([[0.0, 0.0], [50.0, 0.0]])
    p = 1 - 2 * norm.cdf(-width / distance)
    p -= 2 * distance / (np.sqrt(2 * np.pi) * width) * (1 - np.exp(-(width**2) / (2 * distance**2)))
    hits = [
        lsh_precision_recall(
            real, np.array([[0.6, 0.8]]), tables=1, hashes=2, width=width, seed=seed
        ).precision.value
        for seed in range(1500)
    ]
    assert np.mean(hits) == pytest.approx(p**2, abs=0.04)


@pytest.mark.parametrize("d", [3, 64])
@pytest.mark.parametrize("share", [0.6, 0.9])
def test_the_width_gives_a_perfect_generator_the_share_that_was_asked_for(d: int, share: float) -> None:
    x, y = gaussians(1, 600, 600, d)
    found = lsh_precision_recall(x, y, share=share)
    assert found.precision.floor == pytest.approx(share, abs=0.01)
    assert found.precision.value == pytest.approx(share, abs=0.06)
    assert found.recall.value == pytest.approx(share, abs=0.06)


def test_the_floor_of_recall_knows_the_number_of_generated_samples() -> None:
    found = [lsh_precision_recall(*gaussians(seed, 600, 60, 4)).recall for seed in range(6)]
    assert np.mean([r.floor for r in found]) < 0.8
    assert np.mean([r.value for r in found]) == pytest.approx(np.mean([r.floor for r in found]), abs=0.06)


@pytest.mark.parametrize("kept", [10, 8, 5, 2, 1])
def test_of_ten_modes_recall_tells_the_share_that_is_kept(kept: int) -> None:
    rng = np.random.default_rng(0)
    centres = 10 * rng.normal(size=(10, 8))
    real = centres[np.arange(1000) % 10] + rng.normal(size=(1000, 8))
    generated = centres[np.arange(1000) % kept] + rng.normal(size=(1000, 8))
    found = lsh_precision_recall(real, generated)
    # The modes that are kept get more samples than in the real set and so reach more of their own.
    assert kept / 10 * 0.86 <= found.recall.value <= kept / 10 * 1.0
    assert found.precision.value == pytest.approx(0.9, abs=0.04)


@pytest.mark.parametrize("bad", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_precision_falls_in_proportion_to_the_bad_samples(bad: float) -> None:
    x, y = gaussians(2, 800, 800, 6)
    y[: int(800 * bad)] += 8
    found = lsh_precision_recall(x, y).precision
    assert found.value == pytest.approx(0.9 * (1 - bad), abs=0.04)
    assert (found.per_sample[: int(800 * bad)] == 0).all()


def test_one_real_outlier_raises_nothing() -> None:
    x, _ = gaussians(3, 300, 1, 2)
    off = np.random.default_rng(4).normal(size=(300, 2)) + 500
    clean = lsh_precision_recall(x, x[::-1] + 0.1)
    x[0] = 1000
    found = lsh_precision_recall(x, off)  # within its ball, which reaches to the bulk
    assert found.precision.value == 0
    assert found.recall.value == 0
    assert found.width == pytest.approx(clean.width, rel=0.15)


def test_copies_meet_their_originals_and_units_do_not_matter() -> None:
    x, y = gaussians(5, 200, 150, 7)
    same = lsh_precision_recall(x, x[:90].copy())
    assert same.precision.value == 1
    assert (same.recall.per_sample[:90] == 1).all()
    first, second = lsh_precision_recall(x, y), lsh_precision_recall(1024 * x + 512, 1024 * y + 512)
    assert second.precision.value == pytest.approx(first.precision.value, abs=0.02)
    assert second.width == pytest.approx(1024 * first.width, rel=0.01)
    assert lsh_precision_recall(torch.from_numpy(x), y).precision == first.precision
    assert lsh_precision_recall(x, y, seed=1).width != first.width


def test_keys_of_different_cells_differ() -> None:
    hasher = _Hasher.draw(4, 3, 5, np.random.default_rng(0), torch.zeros(2, 4, dtype=torch.float64))
    cells = torch.from_numpy(np.random.default_rng(1).integers(-3, 4, (4000, 15)).astype(np.float32))
    keys = hasher.keys(cells - hasher.offsets + 0.5, 1.0)  # the middle of each cell
    for table in range(3):
        different = len(torch.unique(cells[:, 5 * table : 5 * table + 5], dim=0))
        assert len(torch.unique(keys[:, table])) == different


def test_bad_input_gets_one_sentence() -> None:
    x, y = gaussians(6, 30, 30, 3)
    with pytest.raises(CallError, match="copies of others"):
        lsh_precision_recall(np.ones((20, 3)), y)
    with pytest.raises(CallError, match="copies of others"):
        lsh_precision_recall(np.repeat(x, 2, axis=0), y)
    with pytest.raises(CallError, match="at least 2 real"):
        lsh_precision_recall(x[:1], y)
    with pytest.raises(CallError, match="tables and hashes"):
        lsh_precision_recall(x, y, tables=0)
    with pytest.raises(CallError, match="share must"):
        lsh_precision_recall(x, y, share=1.0)
    with pytest.raises(CallError, match="width of a bucket"):
        lsh_precision_recall(x, y, width=0.0)
    with pytest.raises(CallError, match="NaN"):
        lsh_precision_recall(x, np.full((4, 3), np.nan))

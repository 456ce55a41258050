from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from prdc import compute_prdc

from niwaki.core.contract import CallError
from niwaki.evaluation import manifold


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(((x[:, None] - y[None]) ** 2).sum(2))


def sets(n: int, m: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), 1.2 * rng.normal(size=(m, d)) + 0.2


@pytest.mark.parametrize(("n", "m", "d", "k"), [(120, 90, 3, 5), (80, 150, 40, 3), (200, 200, 8, 1)])
def test_equals_prdc(n: int, m: int, d: int, k: int) -> None:
    x, y = sets(n, m, d)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = compute_prdc(x, y, k)
    ours = manifold(x, y, k, compat="prdc", block=64)
    for name, value in theirs.items():
        assert getattr(ours, name).value == pytest.approx(value, abs=1e-12), name


def test_equals_kynkaats_definitions() -> None:
    x, y = sets(60, 70, 4)
    x[5] = x[6]  # a tie: ≤ and < differ
    y[0] = x[5]
    d2, own = distances(x, y) ** 2, distances(x, x) ** 2
    radius2 = np.sort(own, axis=1)[:, 3]
    own_y = np.sort(distances(y, y) ** 2, axis=1)[:, 3]
    kept = radius2 <= np.percentile(radius2, 50)
    found = manifold(x, y, 3, compat="kynkaat")
    assert found.precision.value == pytest.approx((d2 <= radius2[:, None] + 1e-14).any(0).mean(), abs=1e-6)
    assert found.recall.value == pytest.approx((d2 <= own_y[None] + 1e-14).any(1).mean(), abs=1e-6)
    realism = np.where(kept[:, None], radius2[:, None] / (d2 + 1e-5), 0).max(0)
    np.testing.assert_allclose(found.realism.per_sample, realism, rtol=1e-6)


def test_per_sample_scores_equal_the_slow_definitions() -> None:
    x, y = sets(70, 50, 6, seed=4)
    k = 4
    d, own = distances(x, y), np.sort(distances(x, x), axis=1)
    radius = own[:, k]
    inside = d < radius[:, None]
    found = manifold(x, y, k, block=16)
    kept = radius <= np.median(radius)
    np.testing.assert_allclose(found.realism.per_sample, (radius[kept, None] / d[kept]).max(0), rtol=1e-12)
    rarity = np.where(inside, radius[:, None], np.inf).min(0)
    np.testing.assert_allclose(found.rarity.per_sample, np.where(np.isfinite(rarity), rarity, 0), rtol=1e-12)
    np.testing.assert_array_equal(found.nearest.inside, inside.sum(1))
    np.testing.assert_array_equal(found.nearest.real_index, d.argmin(0))
    np.testing.assert_array_equal(found.nearest.generated_index, d.argmin(1))
    np.testing.assert_allclose(found.nearest.real_distance, d.min(0), rtol=1e-12)


def test_clipped_density_equals_its_slow_leave_one_out_form() -> None:
    x, y = sets(61, 40, 3, seed=2)
    k = 5
    d, own = distances(x, y), distances(x, x)
    np.fill_diagonal(own, np.inf)
    radius = np.sort(own, axis=1)[:, k - 1]
    median = np.median(radius)
    clipped = np.minimum(radius, median)
    ours = np.minimum((d < clipped[:, None]).sum(0), k).mean() / k
    left_out = []
    for j in range(len(x)):
        without = np.sort(np.delete(own, j, axis=1), axis=1)[:, k - 1]  # radii had x_j never been there
        left_out.append(
            min(k, sum(own[i, j] < without[i] and own[i, j] <= median for i in range(61) if i != j))
        )
    assert manifold(x, y, k).clipped_density.value == pytest.approx(ours / (np.mean(left_out) / k), rel=1e-12)


@pytest.mark.parametrize("kept", [10, 8, 5, 2, 1])
def test_of_ten_modes_coverage_tells_the_share_that_is_kept(kept: int) -> None:
    rng = np.random.default_rng(0)
    centres = 30 * rng.normal(size=(10, 4))
    real = centres[np.arange(1000) % 10] + rng.normal(size=(1000, 4))
    generated = centres[np.arange(1000) % kept] + rng.normal(size=(1000, 4))
    found = manifold(real, generated)
    floor = found.coverage.floor
    assert found.coverage.value == pytest.approx(kept / 10 * floor, abs=0.04)
    assert found.recall.value == pytest.approx(kept / 10, abs=0.06)
    assert found.precision.value > 0.92
    assert found.clipped_density.value > 0.93


@pytest.mark.parametrize("bad", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_clipped_density_falls_in_proportion_to_the_bad_samples(bad: float) -> None:
    rng = np.random.default_rng(1)
    generated = rng.normal(size=(800, 5))
    generated[: int(800 * bad)] += 100
    assert manifold(rng.normal(size=(800, 5)), generated).clipped_density.value == pytest.approx(
        1 - bad, abs=0.06
    )


def test_one_real_outlier_does_not_raise_the_clipped_density() -> None:
    rng = np.random.default_rng(2)
    real = rng.normal(size=(300, 2))
    real[0] = 1000
    off = rng.normal(size=(300, 2)) + 500  # far from all but inside the outlier's huge ball
    found = manifold(real, off)
    assert found.density.value > 0.1  # what it guards against
    assert found.clipped_density.value == 0
    assert found.realism.value < 0.1


def test_identical_sets_are_perfect() -> None:
    x, _ = sets(100, 1, 5)
    found = manifold(x, x.copy())
    assert found.precision.value == found.recall.value == found.coverage.value == 1
    kept = found.nearest.radius <= np.median(found.nearest.radius)
    assert np.isinf(found.realism.per_sample[kept]).all()
    assert (found.nearest.real_distance == 0).all()


def test_blocks_and_scale_do_not_matter() -> None:
    x, y = sets(150, 130, 12)
    first = manifold(x, y, block=32)
    second = manifold(1e4 * x + 3e5, 1e4 * y + 3e5, block=4096)
    for name, result in first.results().items():
        if name != "rarity":
            assert getattr(second, name).value == pytest.approx(result.value, rel=1e-7), name


def test_bad_input_gets_one_sentence() -> None:
    x, y = sets(20, 20, 3)
    with pytest.raises(CallError, match="at least 6"):
        manifold(x[:5], y)
    with pytest.raises(CallError, match="did you mean 'prdc'"):
        manifold(x, y, compat="prcd")
    with pytest.raises(CallError, match="copies of itself"):
        manifold(np.ones((20, 3)), y)
    with pytest.raises(CallError, match="k must"):
        manifold(x, y, 0)

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import nbinom

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.grid import Grid
from niwaki.evaluation.metrics.support import support


def slow(real: np.ndarray, generated: np.ndarray, k: int, level: float, ratio: float) -> tuple[float, float]:
    """As the docstrings say it, sample by sample."""

    def sorted_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sort(np.linalg.norm(b - a, axis=1))

    tests = []
    for of in (real, generated):
        tail = int(0.05 * len(of))

        def beyond(a: np.ndarray, others: np.ndarray, of: np.ndarray = of, tail: int = tail) -> np.ndarray:
            out = np.full(len(a), -np.inf)
            for i, value in enumerate(a):
                for sign in (1.0, -1.0):
                    unit = np.sort(sign * of[:, i])[::-1][tail] - sign * np.sort(of[:, i])[len(of) // 2]
                    out[i] = max(out[i], (sign * value - (sign * others[:, i]).max()) / unit)
            return out

        others = [np.delete(of, i, axis=0) for i in range(len(of))]
        far = np.array([sorted_distances(a, o)[k - 1] for a, o in zip(of, others, strict=True)])
        out = np.array([beyond(a, o) for a, o in zip(of, others, strict=True)])
        limit_far = np.sort(far)[len(of) - int(level * len(of)) - 1]
        held = np.mean(far <= limit_far)  # of less than 200 samples none is further outside than allowed
        tests.append((of, beyond, limit_far, out.max(), held))

    def inside(a: np.ndarray, at: int) -> bool:
        of, beyond, limit_far, limit_out, _ = tests[at]
        return bool(sorted_distances(a, of)[k - 1] <= limit_far and beyond(a, of).max() <= limit_out)

    n, m, wide = len(real), len(generated), 4 * k
    precision = np.mean([inside(a, 0) for a in generated]) / tests[0][4]
    least = max(1, int(np.ceil(ratio * wide * m / n - 1e-9)))
    covered = [
        sorted_distances(a, generated)[least - 1] <= sorted_distances(a, real)[wide] and inside(a, 1)
        for a in real
    ]
    dense = nbinom.sf(least - 1, wide, n / (n + m))
    return min(1.0, precision), min(1.0, np.mean(covered) / tests[1][4] / dense)


@pytest.mark.parametrize("d, m", [(1, 60), (3, 90), (3, 45)])
def test_support_equals_its_definition(d: int, m: int) -> None:
    rng = np.random.default_rng(d + m)
    real, generated = rng.normal(size=(60, d)), 0.5 + rng.normal(size=(m, d))
    found = support(real, generated, k=3, level=0.1, ratio=0.25)
    assert (found.precision.value, found.coverage.value) == pytest.approx(
        slow(real, generated, 3, 0.1, 0.25), abs=1e-12
    )


@pytest.mark.parametrize("d", [1, 8, 64])
def test_a_perfect_generator_scores_one(d: int) -> None:
    rng = np.random.default_rng(d)
    found = [support(*rng.normal(size=(2, 500, d))) for _ in range(5)]
    assert np.mean([f.precision.value for f in found]) == pytest.approx(1.0, abs=0.02)
    assert np.mean([f.coverage.value for f in found]) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("kept", [10, 8, 5, 2, 1])
def test_lost_modes_lower_coverage_by_their_share_and_leave_precision(kept: int) -> None:
    rng = np.random.default_rng(kept)
    centres = 20.0 * rng.normal(size=(10, 4))
    real = centres[np.arange(600) % 10] + rng.normal(size=(600, 4))
    found = support(real, centres[np.arange(600) % kept] + rng.normal(size=(600, 4)))
    assert found.coverage.value == pytest.approx(kept / 10, abs=0.04)
    assert found.precision.value > 0.94


@pytest.mark.parametrize("bad", [0.0, 0.3, 0.7, 1.0])
def test_precision_falls_by_the_share_of_ruins(bad: float) -> None:
    rng = np.random.default_rng(int(10 * bad))
    real, generated = rng.normal(size=(2, 600, 4))
    generated[: int(600 * bad)] += 30.0 * rng.normal(size=(int(600 * bad), 4))
    assert support(real, generated).precision.value == pytest.approx(1 - bad, abs=0.05)


def test_an_outlier_adds_nothing_around_it() -> None:
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(300, 3)), 8.0 + rng.normal(size=(300, 3))
    for found in (
        support(np.concatenate([real, [[8.0] * 3]]), generated),
        support(real, np.concatenate([generated, [[0.0] * 3]])),
    ):
        assert found.precision.value < 0.02
        assert found.coverage.value < 0.02


def test_one_wrong_coordinate_among_many_is_seen() -> None:
    rng = np.random.default_rng(0)
    real, generated = rng.normal(size=(2, 400, 300))
    assert support(real, generated).precision.value > 0.9
    generated[:, 7] += 8.0
    found = support(real, generated)
    assert found.precision.value < 0.02
    assert found.coverage.value < 0.02


def test_numbers_between_the_steps_are_impossible() -> None:
    rng = np.random.default_rng(0)
    whole, between = np.round(30 * rng.normal(size=(300, 2))), 30 * rng.normal(size=(300, 2))
    found = support(whole, between)
    assert (found.precision.value, found.coverage.value) == (0.0, 0.0)
    found = support(whole, between, grid=False)
    assert min(found.precision.value, found.coverage.value) > 0.9
    found = support(between, whole)
    assert found.precision.value > 0.94
    assert found.coverage.value == 0.0
    found = support(whole, np.round(30 * rng.normal(size=(300, 2))))
    assert min(found.precision.value, found.coverage.value) > 0.9


def test_a_grid_needs_evidence() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 5))
    x[:, 1] = np.round(3 * x[:, 1]) * 0.1 - 7.0  # steps
    x[:, 2] = 4.0  # constant
    x[:, 3] = np.where(np.arange(200) == 3, x[:, 3], 0.0)  # zero but for one sample
    x[:, 4] = np.maximum(x[:, 4], 0.0)  # rectified
    grid = Grid.of(torch.from_numpy(x))
    assert grid.columns.tolist() == [1]
    assert float(grid.step[0]) == pytest.approx(0.1)
    x[0, 1] += 0.05
    assert grid.holds(torch.from_numpy(x)).tolist() == [False] + [True] * 199


def test_support_does_not_depend_on_units_or_order() -> None:
    rng = np.random.default_rng(1)
    real, generated = rng.normal(size=(100, 4)), 0.7 * rng.normal(size=(120, 4))
    before = support(real, generated)
    order = rng.permutation(4)
    after = support(8.0 * real[::-1, order] + 2.0, 8.0 * generated[::-1, order] + 2.0)
    assert before.precision.value == after.precision.value
    assert before.coverage.value == after.coverage.value


def test_copies_of_one_sample_have_a_defined_value() -> None:
    same = np.ones((50, 3))
    assert support(same, same).precision.value == 1.0
    assert support(same, same).coverage.value == 1.0
    found = support(same, same + 1.0)
    assert (found.precision.value, found.coverage.value) == (0.0, 0.0)


def test_nonsense_is_refused() -> None:
    x = np.random.default_rng(0).normal(size=(50, 2))
    for arguments, said in (
        ((x[:39], x), "at least 40 real"),
        ((x, x[:20]), "at least 40 generated"),
        ((x, x[:, :1]), "2 features"),
        ((np.where(x == x[3, 1], np.nan, x), x), "NaN"),
    ):
        with pytest.raises(CallError, match=said):
            support(*arguments)
    for options in ({"k": 0}, {"level": 0.0}, {"ratio": 1.5}):
        with pytest.raises(CallError):
            support(x, x, **options)  # type: ignore[arg-type]

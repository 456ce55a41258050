from __future__ import annotations

import numpy as np
import pytest

from niwaki.core.contract import CallError
from niwaki.evaluation.memorization.authenticity import authenticity


def slow(train: np.ndarray, generated: np.ndarray) -> np.ndarray:
    out = []
    for g in generated:
        d = np.sqrt(((train - g) ** 2).sum(1))
        t = int(d.argmin())
        others = np.delete(train, t, axis=0)
        out.append(d[t] > np.sqrt(((others - train[t]) ** 2).sum(1)).min())
    return np.array(out, dtype=float)


@pytest.mark.parametrize(("n", "m", "d"), [(40, 70, 3), (90, 30, 12)])
def test_equals_the_definition_written_out(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(0)
    train, test, generated = rng.normal(size=(n, d)), rng.normal(size=(25, d)), rng.normal(size=(m, d))
    found = authenticity(train, generated, test=test, block=16)
    np.testing.assert_array_equal(found.per_sample, slow(train, generated))
    assert found.value == slow(train, generated).mean()
    assert found.floor == slow(train, test).mean()
    left_out = [slow(np.delete(train, i, axis=0), train[i : i + 1])[0] for i in range(n)]
    assert authenticity(train, generated).floor == pytest.approx(np.mean(left_out), abs=1e-12)


def test_ten_points_copied_fifty_times_are_not_authentic() -> None:
    rng = np.random.default_rng(1)
    train = rng.normal(size=(500, 8))
    found = authenticity(train, np.repeat(train[:10], 50, axis=0))
    assert found.value == 0
    assert found.interval[0] == pytest.approx(0, abs=1e-12)
    assert 0 < found.interval[1] < 0.01


def test_copies_are_called_copies_in_proportion() -> None:
    rng = np.random.default_rng(2)
    train, generated = rng.normal(size=(600, 16)), rng.normal(size=(600, 16))
    clean = authenticity(train, generated).value
    for share in (0.25, 0.5, 1.0):
        mixed = generated.copy()
        some = slice(0, int(600 * share))
        mixed[some] = train[some] + 1e-3 * rng.normal(size=mixed[some].shape)
        assert authenticity(train, mixed).value == pytest.approx((1 - share) * clean, abs=0.03)


@pytest.mark.parametrize("d", [2, 32])
def test_a_perfect_generator_scores_the_floor_and_not_one(d: int) -> None:
    rng = np.random.default_rng(3)
    train, test, generated = rng.normal(size=(3, 1500, d))
    found, alone = authenticity(train, generated, test=test), authenticity(train, generated)
    assert found.floor < 0.9
    assert found.value == pytest.approx(found.floor, abs=0.05)
    assert found.value == pytest.approx(alone.floor, abs=0.05)


def test_a_copy_of_a_duplicate_is_a_tie_and_not_authentic() -> None:
    train = np.array([[0.0], [0.0], [1.0], [5.0]])
    found = authenticity(train, np.array([[0.0], [0.1], [4.0], [2.0], [9.5]]))
    # 0.1 is nearest to a point with a copy at distance 0; 4 is 1 from 5, whose neighbour is 4 away; 2 is as
    # far from 1 as 1 is from 0; 9.5 is further from 5 than 1 is.
    assert found.per_sample.tolist() == [0, 1, 0, 0, 1]


def test_bad_input_gets_one_sentence() -> None:
    x = np.random.default_rng(4).normal(size=(9, 3))
    with pytest.raises(CallError, match="at least 3 train"):
        authenticity(x[:2], x)
    with pytest.raises(CallError, match="train has 3 features and test 2"):
        authenticity(x, x, test=x[:, :2])
    with pytest.raises(CallError, match="generated features hold NaN"):
        authenticity(x, np.full((4, 3), np.nan))

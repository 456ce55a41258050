from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans

from niwaki.core.contract import CallError
from niwaki.evaluation.memorization.copying_test import _z, copying_test
from niwaki.evaluation.statistics.ranks import mid_ranks


def sets(seed: int = 0, n: int = 400, m: int = 300, d: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)), rng.normal(size=(m, d))


def to_nearest(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(((y[:, None] - x[None]) ** 2).sum(2)).min(1)


@pytest.mark.parametrize("compat", [None, "meehan"])
def test_equals_scipys_test_in_every_cell(compat: str | None) -> None:
    train, test, generated = sets()
    generated[:40] = train[:40] + 0.01 * test[:40]
    found = copying_test(train, test, generated, cells=4, seed=3, compat=compat, block=64)
    model = KMeans(4, n_init=10, random_state=3).fit(train)
    of_train, of_test, of_generated = model.labels_, model.predict(test), model.predict(generated)
    np.testing.assert_array_equal(found.cell, of_generated)
    total = weights = 0.0
    for cell, part in enumerate(found.cells):
        near = train[of_train == cell] if compat else train
        a, b = to_nearest(near, test[of_test == cell]), to_nearest(near, generated[of_generated == cell])
        u = mannwhitneyu(b, a, alternative="less").statistic
        shift = 0.5 if compat else 0.0
        z = (u - len(a) * len(b) / 2 + shift) / np.sqrt(len(a) * len(b) * (len(a) + len(b) + 1) / 12)
        assert part.z == pytest.approx(z, abs=1e-9)
        assert (part.test, part.generated) == (len(a), len(b))
        if not compat:
            p = mannwhitneyu(b, a, alternative="less", use_continuity=False, method="asymptotic").pvalue
            assert part.p_value == pytest.approx(p, abs=1e-9)
            below = (a[None] < b[:, None]).mean(1)
            np.testing.assert_allclose(found.score.per_sample[of_generated == cell], below)
        if len(b) > 20:
            total, weights = total + len(a) * z, weights + len(a)
    assert found.score.value == pytest.approx(total / weights, abs=1e-9)
    if not compat:
        np.testing.assert_allclose(found.distance, to_nearest(train, generated), rtol=1e-9)
        np.testing.assert_allclose(
            np.linalg.norm(train[found.index] - generated, axis=1), found.distance, rtol=1e-9
        )


@pytest.mark.parametrize(
    "values", [[1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 0, 1, 1, 2, 3, 3], [0, 0, 0, 0, 0, 0, 0, 1]]
)
def test_z_has_mean_0_and_variance_1_over_all_exchanges_also_with_ties(values: list[int]) -> None:
    pool = np.array(values, dtype=float)
    z = []
    for chosen in itertools.combinations(range(8), 3):
        inside = np.isin(np.arange(8), chosen)
        a, b = pool[~inside], pool[inside]
        z.append(_z(a, b, mid_ranks(b, a), False)[0])
    assert np.mean(z) == pytest.approx(0, abs=1e-12)
    assert np.var(z) == pytest.approx(1, rel=1e-12)


def test_where_nothing_is_copied_z_is_standard_normal_and_p_is_uniform() -> None:
    z, total, p, covered = [], [], [], 0
    for seed in range(150):
        found = copying_test(*sets(seed, 80, 60, 3), cells=2, seed=seed)
        counted = [c for c in found.cells if c.counted]
        z += [c.z for c in counted]
        weight = np.array([c.weight for c in counted])
        total.append(found.score.value * weight.sum() / np.linalg.norm(weight))
        p.append(found.p_value)
        covered += found.score.interval[0] <= 0 <= found.score.interval[1]
    assert abs(np.mean(z)) < 0.2
    assert 0.85 < np.std(z) < 1.15
    assert abs(np.mean(total)) < 0.25
    assert 0.85 < np.std(total) < 1.15
    assert np.mean(np.array(p) < 0.05) < 0.1
    assert 0.4 < np.mean(p) < 0.6
    assert covered >= 136


def test_copies_are_called_copies() -> None:
    train, test, generated = sets(1)
    noisy = train[:300] + 0.02 * np.random.default_rng(0).normal(size=(300, 4))
    copied = copying_test(train, test, noisy)
    assert copied.score.value < -8
    assert copied.p_value < 1e-20
    assert copied.score.per_sample.max() < 0.05
    generated[:60] = train[:60]
    some = copying_test(train, test, generated)
    assert some.p_value < 0.01
    assert (some.score.per_sample[:60] == 0).all()
    assert (some.index[:60] == np.arange(60)).all()
    assert copying_test(train, test, test + 3).score.value > 8  # away from everything


def test_copying_one_cell_shows_there() -> None:
    rng = np.random.default_rng(2)
    centres = 20 * np.eye(3)
    train, test, generated = (
        centres[rng.integers(0, 3, n)] + rng.normal(size=(n, 3)) for n in (600, 300, 300)
    )
    near = np.flatnonzero(((generated - centres[0]) ** 2).sum(1) < 100)
    own = train[((train - centres[0]) ** 2).sum(1) < 100]
    generated[near] = own[: len(near)]
    found = copying_test(train, test, generated, cells=3)
    scores = sorted(c.z for c in found.cells)
    assert scores[0] < -8
    assert scores[1] > -3


def test_a_cell_without_generated_samples_does_not_count() -> None:
    rng = np.random.default_rng(3)
    centres = 20 * np.eye(3)
    train, test = (centres[rng.integers(0, 3, n)] + rng.normal(size=(n, 3)) for n in (600, 300))
    generated = centres[rng.integers(0, 2, 300)] + rng.normal(size=(300, 3))
    found = copying_test(train, test, generated)
    assert [c.generated == 0 for c in found.cells] == [not c.counted for c in found.cells]
    assert sum(c.counted for c in found.cells) == 2
    assert abs(found.score.value) < 3


def test_equal_distances_everywhere_give_zero() -> None:
    train = np.array([[0.0], [10.0]])
    near = np.concatenate([np.full((30, 1), 1.0), np.full((30, 1), 11.0)])
    found = copying_test(train, near, near, cells=2)
    assert found.score.value == 0
    assert found.p_value == 0.5
    assert (found.score.per_sample == 0.5).all()


def test_bad_input_gets_one_sentence() -> None:
    train, test, generated = sets(4, 50, 40)
    with pytest.raises(CallError, match="fewer cells or more samples"):
        copying_test(train, test, generated[:20])
    with pytest.raises(CallError, match="3 different training samples make no 4 cells"):
        copying_test(np.repeat(train[:3], 5, axis=0), test, generated, cells=4)
    with pytest.raises(CallError, match="did you mean 'meehan'"):
        copying_test(train, test, generated, compat="mehan")
    with pytest.raises(CallError, match="train has 4 features and generated 3"):
        copying_test(train, test, generated[:, :3])
    with pytest.raises(CallError, match="test features hold NaN"):
        copying_test(train, np.full((9, 4), np.nan), generated)

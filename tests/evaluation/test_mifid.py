from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.evaluation.memorization.mifid import mifid
from niwaki.evaluation.metrics.frechet import frechet_distance

RNG = np.random.default_rng(6)


def cosine_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    return 1 - x @ y.T


@pytest.mark.parametrize("threshold", [0.0, 0.1, 2.0])
def test_equals_the_slow_definition(threshold: float) -> None:
    x, y = RNG.uniform(0, 1, (60, 5)), RNG.uniform(0, 1, (40, 5))
    found = mifid(x, y, threshold=threshold, block=16)
    per_sample = cosine_distances(y, x).min(1)
    np.testing.assert_allclose(found.per_sample, per_sample, rtol=1e-9, atol=1e-15)
    assert found.memorization.value == pytest.approx(per_sample.mean(), rel=1e-12)
    fid = frechet_distance(x, y).value
    expected = fid / per_sample.mean() if per_sample.mean() < threshold else fid
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert found.distance == fid


def test_copies_are_at_distance_zero_and_pay_for_it() -> None:
    x = RNG.normal(size=(50, 6)) + 1
    y = np.concatenate([x[:10] * 7.0, RNG.normal(size=(30, 6)) + 1])
    found = mifid(x, y)
    assert (found.per_sample[:10] < 1e-15).all()
    assert (found.per_sample[10:] > 1e-6).all()
    all_copied = mifid(x, x[:20])
    assert all_copied.memorization.value < 1e-15
    assert all_copied.value > 1e12 * all_copied.distance
    assert np.isfinite(all_copied.value)


def test_nearly_a_copy_is_not_rounded_to_one() -> None:
    """1 − cosine would lose 1e-18 to rounding; half the squared difference does not."""
    x = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.2]])
    y = np.array([[1.0, 1e-9], [0.5, 0.5]])
    found = mifid(x, y)
    assert found.per_sample[0] == pytest.approx(0.5e-18, rel=1e-6)
    assert found.per_sample[1] == pytest.approx(1 - np.sqrt(0.5), rel=1e-12)


def test_the_direction_is_that_of_the_generated() -> None:
    """Ten copies of one training sample memorise, however many others are never met again."""
    x = np.eye(30)
    y = np.repeat(x[:1], 10, axis=0) * RNG.uniform(0.5, 2, (10, 1))
    assert mifid(x, y, fid=1.0).memorization.value == pytest.approx(0, abs=1e-15)
    assert mifid(x, y, fid=1.0, compat="torchmetrics").memorization.value == pytest.approx(29 / 30)


def test_a_given_distance_is_penalised() -> None:
    x, y = RNG.uniform(0.9, 1, (40, 4)), RNG.uniform(0.9, 1, (30, 4))
    s = mifid(x, y).memorization.value
    assert s < 0.1
    assert mifid(x, y, fid=3.0).value == pytest.approx(3 / s, rel=1e-9)
    test = frechet_distance(x[:20], y)
    assert mifid(x, y, fid=test).value == pytest.approx(test.value / s, rel=1e-9)
    low, high = mifid(x, y).memorization.interval
    assert low < s < high
    assert json.loads(json.dumps(mifid(x, y).to_json()))["memorization"]["value"] == s


@pytest.mark.parametrize("threshold", [0.1, 0.001])
def test_equals_torchmetrics(threshold: float) -> None:
    module = pytest.importorskip("torchmetrics.image.mifid")
    x = torch.from_numpy(1 + 0.3 * RNG.normal(size=(60, 5)))
    y = torch.from_numpy(1 + 0.3 * RNG.normal(size=(50, 5)))
    x[3] = 0.0
    y[:20] *= -1
    moments = [(v.mean(0), v.T.cov(), v) for v in (x, y)]
    theirs = float(module._mifid_compute(*moments[0], *moments[1], threshold))
    found = mifid(x, y, threshold=threshold, compat="torchmetrics", block=16)
    assert found.value == pytest.approx(theirs, rel=1e-6)
    penalty = module._compute_cosine_distance(x, y, 2.0)
    assert found.memorization.value == pytest.approx(float(penalty), rel=1e-6)
    assert 0.001 < found.memorization.value < 0.1


def test_bad_input_gets_one_sentence() -> None:
    x = RNG.normal(size=(10, 3))
    empty = x.copy()
    empty[2] = 0
    with pytest.raises(CallError, match="train features are all zeros"):
        mifid(empty, x)
    with pytest.raises(CallError, match="threshold"):
        mifid(x, x, threshold=3)
    with pytest.raises(CallError, match="at least 0"):
        mifid(x, x, fid=float("nan"))
    with pytest.raises(CallError, match="did you mean 'torchmetrics'"):
        mifid(x, x, compat="torchmetric")
    with pytest.raises(CallError, match="leaves out"):
        mifid(np.zeros((5, 3)), x, fid=1.0, compat="torchmetrics")

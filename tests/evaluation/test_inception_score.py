from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.inception_score import inception_score

RNG = np.random.default_rng(4)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def slow(p: np.ndarray) -> float:
    """exp of the mean over samples of Σ p log(p / mean p), by loops."""
    marginal = p.mean(0)
    total = 0.0
    for row in p:
        total += sum(a * np.log(a / b) for a, b in zip(row, marginal, strict=True) if a > 0)
    return float(np.exp(total / len(p)))


@pytest.mark.parametrize(("n", "splits"), [(100, 10), (103, 10), (7, 7), (50, 1)])
def test_equals_the_definition_split_by_split(n: int, splits: int) -> None:
    p = softmax(RNG.normal(size=(n, 6)) * 3)
    p[0] = np.eye(6)[2]  # zeros count nothing
    expected = [slow(p[i * n // splits : (i + 1) * n // splits]) for i in range(splits)]
    found = inception_score(p, splits=splits)
    np.testing.assert_allclose(found.splits, expected, rtol=1e-12)
    assert found.value == pytest.approx(np.mean(expected), rel=1e-12)
    assert found.deviation == pytest.approx(np.std(expected), rel=1e-9, abs=1e-15)
    for i in range(splits):
        part = found.per_sample[i * n // splits : (i + 1) * n // splits]
        assert np.exp(part.mean()) == pytest.approx(expected[i], rel=1e-12)


def test_known_answers() -> None:
    certain = np.eye(10)[np.arange(200) % 10]
    assert inception_score(certain).value == pytest.approx(10, rel=1e-12)
    assert inception_score(np.full((50, 10), 0.1)).value == pytest.approx(1, rel=1e-12)  # of no class
    assert inception_score(np.eye(10)[np.zeros(50, dtype=int)]).value == pytest.approx(1)  # all of one class
    sure = 0.8  # one of two classes with 0.8: log 2 less the entropy
    half = np.array([[sure, 1 - sure], [1 - sure, sure]] * 20)
    entropy = -(sure * np.log(sure) + (1 - sure) * np.log(1 - sure))
    assert inception_score(half).value == pytest.approx(2 * np.exp(-entropy), rel=1e-12)


def test_samples_sorted_by_class_need_the_shuffle() -> None:
    sorted_ = np.eye(10)[np.repeat(np.arange(10), 30)]
    assert inception_score(sorted_).value == pytest.approx(1)
    shuffled = inception_score(sorted_, seed=0)
    assert shuffled.value > 8
    assert shuffled.seed == 0
    np.testing.assert_array_equal(shuffled.per_sample > 1, True)


@pytest.mark.parametrize("n", [100, 95])
def test_equals_torchmetrics(n: int) -> None:
    module = pytest.importorskip("torchmetrics.image.inception")
    logits = torch.from_numpy(RNG.normal(size=(n, 8)) * 2)
    metric = module.InceptionScore(feature=torch.nn.Identity(), splits=10)
    metric.update(logits)
    torch.manual_seed(3)
    mean, deviation = metric.compute()
    torch.manual_seed(3)
    shuffled = logits[torch.randperm(n)].softmax(1)
    found = inception_score(shuffled, compat="torchmetrics")
    assert found.value == pytest.approx(float(mean), rel=1e-9)
    assert found.deviation == pytest.approx(float(deviation), rel=1e-9)
    if n == 100:  # equal parts: only the ddof differs
        ours = inception_score(shuffled)
        assert ours.value == pytest.approx(found.value, rel=1e-12)
        assert ours.deviation == pytest.approx(found.deviation * np.sqrt(0.9), rel=1e-12)


def test_torch_fidelitys_shuffle() -> None:
    p = softmax(RNG.normal(size=(60, 5)))
    order = np.random.RandomState(2020).permutation(60)
    found = inception_score(p, compat="torch-fidelity")
    assert found.seed == 2020
    np.testing.assert_allclose(found.splits, inception_score(p[order]).splits, rtol=1e-12)
    np.testing.assert_allclose(found.per_sample[order], inception_score(p[order]).per_sample, rtol=1e-12)


def test_the_interval_covers_the_expected_score_of_a_split() -> None:
    rng = np.random.default_rng(0)
    truth = np.mean([slow(softmax(rng.normal(size=(30, 4)) * 2)) for _ in range(2000)])
    hits = 0
    for _ in range(200):
        low, high = inception_score(softmax(rng.normal(size=(300, 4)) * 2)).interval
        hits += low <= truth <= high
    assert 0.9 < hits / 200 < 0.99
    assert inception_score(softmax(rng.normal(size=(30, 4))), splits=1).interval is None


def test_json_and_float32() -> None:
    p = torch.randn(50, 9, generator=torch.Generator().manual_seed(0)).softmax(1)
    found = inception_score(p)
    assert json.loads(json.dumps(found.to_json()))["deviation"] == found.deviation
    assert found.n == (0, 50)
    assert "splits:10" in found.signature


def test_bad_input_gets_one_sentence() -> None:
    p = softmax(RNG.normal(size=(20, 3)))
    with pytest.raises(CallError, match=r"row 0 has the sum .* softmax"):
        inception_score(np.log(p))
    low = p.copy()
    low[5] = [1.2, -0.1, -0.1]
    with pytest.raises(CallError, match="row 5"):
        inception_score(low)
    with pytest.raises(CallError, match="1 … 20"):
        inception_score(p, splits=21)
    with pytest.raises(CallError, match="dimensions"):
        inception_score(p[0])
    with pytest.raises(CallError, match="NaN"):
        inception_score(p * np.nan)
    with pytest.raises(CallError, match="did you mean 'torchmetrics'"):
        inception_score(p, compat="torchmetric")

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.tstr import train_on_synthetic_test_on_real
from niwaki.evaluation.statistics import shares
from niwaki.evaluation.statistics.result import wilson


def blobs(n: int, seed: int, spread: float = 1.0, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Three classes at the corners of a triangle."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return 3 * np.eye(3)[y] + spread * rng.normal(size=(n, 3)) + shift, y


@pytest.mark.parametrize("classifier", ["logistic", "nearest", "mlp"])
def test_separable_classes_are_learnt_and_permuted_ones_are_not(classifier: str) -> None:
    x, y = blobs(150, 0, 0.1)
    test, truth = blobs(120, 1, 0.1)
    found = train_on_synthetic_test_on_real(x, y, test, truth, classifier=classifier)
    assert found.synthetic.value == 1
    assert found.synthetic.interval == pytest.approx(wilson(120, 120))
    wrong = train_on_synthetic_test_on_real(x, (y + 1) % 3, test, truth, classifier=classifier)
    assert wrong.synthetic.value == 0
    assert found.real is found.both is found.gain is found.gain_p is None


def test_one_nearest_neighbour_equals_the_loop() -> None:
    x, y = blobs(60, 2)
    test, truth = blobs(50, 3)
    scale = x.std(0)
    nearest = [y[np.argmin((((x - t) / scale) ** 2).sum(1))] for t in test]
    found = train_on_synthetic_test_on_real(x, y, test, truth, classifier="nearest")
    np.testing.assert_array_equal(found.synthetic.per_sample, nearest == truth)


def test_logistic_regression_finds_the_midplane() -> None:
    """Two points, one per class: by symmetry the boundary is halfway between them."""
    x, y = np.array([[0.0, 0], [4.0, 2]]), [0, 1]
    test = np.random.default_rng(0).normal(size=(200, 2)) * 3 + [2, 1]
    truth = ((test - [2, 1]) / [2, 1]).sum(1) > 0  # columns standardised: equal weights
    found = train_on_synthetic_test_on_real(x, y, test, truth.astype(int))
    assert found.synthetic.value == 1


def test_what_generated_samples_add_is_measured_sample_by_sample() -> None:
    train, labels = blobs(12, 4, 2.0)
    more, more_labels = blobs(3000, 5, 2.0)
    test, truth = blobs(600, 6, 2.0)
    found = train_on_synthetic_test_on_real(more, more_labels, test, truth, train=train, train_labels=labels)
    assert found.gain.value == pytest.approx(found.both.value - found.real.value, abs=1e-12)
    assert found.gap.value == pytest.approx(found.real.value - found.synthetic.value, abs=1e-12)
    np.testing.assert_array_equal(found.gain.per_sample, found.both.per_sample - found.real.per_sample)
    a, b = found.both.per_sample == 1, found.real.per_sample == 1
    table = [int((s & t).sum()) for s, t in ((a, b), (a, ~b), (~a, b), (~a, ~b))]
    assert found.gain.interval == pytest.approx(shares.paired_difference(*table))
    assert found.gain_p == pytest.approx(binomtest(table[1], table[1] + table[2]).pvalue)
    assert found.gain.interval[0] > 0
    assert found.gain_p < 0.01
    assert found.synthetic.floor == found.real.value


def test_the_real_data_as_generated_lose_nothing() -> None:
    train, labels = blobs(200, 7)
    test, truth = blobs(300, 8)
    found = train_on_synthetic_test_on_real(train, labels, test, truth, train=train, train_labels=labels)
    assert found.gap.value == 0
    assert found.gap_p == 1
    assert found.gap.interval[0] < 0 < found.gap.interval[1]


def test_balanced_accuracy_is_the_mean_over_classes() -> None:
    x, y = blobs(300, 9, 1.5)
    test, truth = blobs(400, 10, 1.5)
    rare = (truth != 2) | (np.arange(400) % 5 == 0)
    test, truth = test[rare], truth[rare]
    found = train_on_synthetic_test_on_real(x, y, test, truth, balanced=True).synthetic
    recalls = [found.per_sample[truth == c].mean() for c in range(3)]
    assert found.value == pytest.approx(np.mean(recalls), rel=1e-12)
    assert found.value != pytest.approx(found.per_sample.mean(), abs=1e-4)
    # By the squares of the half-widths: no wider than the widest class, no narrower than a third of it.
    widths = [np.diff(wilson(found.per_sample[truth == c].sum(), (truth == c).sum()))[0] for c in range(3)]
    assert max(widths) / 3 < found.interval[1] - found.interval[0] < max(widths)
    one = train_on_synthetic_test_on_real(x, y, test[truth == 0], truth[truth == 0], balanced=True).synthetic
    plain = train_on_synthetic_test_on_real(x, y, test[truth == 0], truth[truth == 0]).synthetic
    assert one.interval == pytest.approx(plain.interval, abs=1e-12)


def test_the_balanced_interval_covers_the_truth() -> None:
    """Hits with known chances per class, through the same combination."""
    from niwaki.evaluation.metrics.tstr import _accuracy

    rng = np.random.default_rng(11)
    truth = np.repeat([0, 1, 2], [150, 60, 30])
    chance = np.array([0.95, 0.8, 0.6])
    strata = [truth == c for c in range(3)]
    found = [_accuracy(rng.random(240) < chance[truth], strata)[1] for _ in range(2000)]
    assert 0.93 <= np.mean([a <= chance.mean() <= b for a, b in found]) <= 0.98


def test_a_generator_of_one_class_answers_that_class() -> None:
    test, truth = blobs(90, 12)
    found = train_on_synthetic_test_on_real(np.ones((5, 3)), np.full(5, 1), test, truth)
    assert found.synthetic.value == np.mean(truth == 1)


def test_torch_images_and_json() -> None:
    x, y = blobs(40, 13)
    images = torch.from_numpy(x).reshape(40, 3, 1, 1)
    found = train_on_synthetic_test_on_real(images, torch.from_numpy(y), x, y, train=x, train_labels=y)
    record = json.loads(json.dumps(found.to_json()))
    assert record["gain"]["value"] == found.gain.value
    assert record["synthetic"]["signature"].startswith("metric:tstr|classifier:logistic")


def test_bad_input_gets_one_sentence() -> None:
    x, y = blobs(20, 14)
    with pytest.raises(CallError, match="did you mean 'logistic'"):
        train_on_synthetic_test_on_real(x, y, x, y, classifier="logistics")
    with pytest.raises(CallError, match="go together"):
        train_on_synthetic_test_on_real(x, y, x, y, train=x)
    with pytest.raises(CallError, match="generated labels must be integers, one for each of the 20"):
        train_on_synthetic_test_on_real(x, y[:5], x, y)
    with pytest.raises(CallError, match="test has 2 features and generated 3"):
        train_on_synthetic_test_on_real(x, y, x[:, :2], y)
    with pytest.raises(CallError, match="NaN"):
        train_on_synthetic_test_on_real(np.where(x > 3, np.nan, x), y, x, y)

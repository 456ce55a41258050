"""Metrics at the edge: an overflow, an empty set or an odd array is one sentence and never a good score, and
what cannot be had stands in nobody's way."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from evaluation.vectors import Identity, vector_dataset

from niwaki import evaluation as e
from niwaki.core.contract import CallError
from niwaki.evaluation.feature_sets import FeatureSets
from niwaki.evaluation.measures import measure
from niwaki.evaluation.statistics.result import Result, at_least_zero

RNG = np.random.default_rng(0)
X, Y, T = RNG.normal(size=(120, 6)), RNG.normal(size=(120, 6)) + 0.3, RNG.normal(size=(120, 6))

METRICS: dict[str, Callable[[Any, Any], Any]] = {
    "frechet": e.frechet_distance,
    "frechet_infinity": e.frechet_distance_infinity,
    "kernel": e.kernel_distance,
    "kernel_test": e.kernel_test,
    "cmmd": e.cmmd,
    "mind": e.mind,
    "manifold": e.manifold,
    "gram": e.gram_metrics,
    "lsh": e.lsh_precision_recall,
    "alpha_beta": e.alpha_beta,
    "support": e.support,
    "clusters": e.coverage_per_cluster,
    "authenticity": e.authenticity,
    "mifid": e.mifid,
    "copying_test": lambda x, y: e.copying_test(x, T, y),
    "feature_likelihood": lambda x, y: e.feature_likelihood_divergence(x, T, y),
    "vendi": lambda x, y: e.vendi_score(y),
}
BROKEN: dict[str, Callable[[np.ndarray], Any]] = {
    "empty": lambda x: x[:0],
    "no columns": lambda x: x[:, :0],
    "objects": lambda x: x.astype(object),
    "words": lambda x: x.astype(str),
    "dates": lambda x: np.zeros(x.shape, "datetime64[s]"),
    "complex": lambda x: x + 1j,
    "ragged": lambda x: [list(x[0]), list(x[1][:3])],
    "masked": lambda x: np.ma.masked_less(x, 0),
    "sparse": lambda x: scipy.sparse.csr_matrix(x),
    "sparse tensor": lambda x: torch.tensor(x).to_sparse(),
    "nothing": lambda x: None,
    "NaN": lambda x: np.where(x > 1.5, np.nan, x),
    "infinity": lambda x: np.where(x > 1.5, np.inf, x),
}
DIRECTIONS = ("cmmd", "vendi")
"""Metrics of directions, which a factor does not change."""


@pytest.mark.parametrize("name", METRICS)
def test_what_is_no_array_of_numbers_is_one_sentence(name: str) -> None:
    for kind, spoil in BROKEN.items():
        for x, y in ((spoil(X), spoil(Y)), (X, spoil(Y))):
            with pytest.raises(CallError) as caught:
                METRICS[name](x, y)
            assert "\n" not in str(caught.value), kind


@pytest.mark.parametrize("factor", [1e160, 1e120, 1e70, 1e-70, 1e-120, 1e-200])
@pytest.mark.parametrize("name", METRICS)
def test_what_overflows_or_underflows_is_no_score(name: str, factor: float) -> None:
    if name in DIRECTIONS:
        scaled, plain = METRICS[name](X * factor, Y * factor).value, METRICS[name](X, Y).value
        assert scaled == pytest.approx(plain, rel=1e-9)
        return
    with pytest.raises(CallError, match=r"too large|too small"):
        METRICS[name](X * factor, Y * factor)


@pytest.mark.parametrize("factor", [1e-7, 1e30, 1e50])
def test_a_kernel_that_sees_nothing_says_so(factor: float) -> None:
    """(x·y/d + 1)³ of tiny features is 1 for all of them, and every distance 0."""
    for metric in (e.kernel_distance, e.kernel_test, e.gram_metrics):
        if factor == 1e-7 or metric is e.gram_metrics:
            with pytest.raises(CallError, match=r"too small|too large"):
                metric(X * factor, Y * factor)
    assert e.frechet_distance(X * factor, Y * factor).value == pytest.approx(
        e.frechet_distance(X, Y).value * factor**2, rel=1e-6
    )


def test_float32_that_is_large_has_its_distance() -> None:
    large = [(v * 1e36).astype(np.float32) for v in (X, Y)]
    assert e.frechet_distance(*large).value == pytest.approx(e.frechet_distance(X, Y).value * 1e72, rel=1e-4)


@pytest.mark.parametrize("kind", [np.float16, np.longdouble, np.uint16, np.int64, ">f8"])
def test_numbers_of_any_type_are_numbers(kind: Any) -> None:
    x, y = (np.rint(10 * v + 50).astype(kind) for v in (X, Y))
    expected = e.frechet_distance(*(np.rint(10 * v + 50) for v in (X, Y))).value
    assert e.frechet_distance(x, y).value == pytest.approx(expected, rel=1e-9)


def test_no_result_is_no_number() -> None:
    for value, interval in ((math.nan, None), (math.inf, None), (1.0, (math.nan, 2.0))):
        with pytest.raises(CallError, match="frechet cannot be had"):
            Result(value, interval, None, None, (1, 1), None, "metric:frechet|d:1")
    assert Result(math.inf, None, None, None, (1, 1), None, "metric:realism", endless=True).value == math.inf
    assert math.isnan(at_least_zero(math.nan))
    assert at_least_zero(-1e-18) == 0.0
    assert e.manifold(X, X.copy()).realism.value == math.inf, "every sample lies on a real one"


class TestOneBlocksNoOther:
    def sets(self, **changed: np.ndarray) -> FeatureSets:
        return FeatureSets(**{"real": X, "generated": Y, "reference": T, "train": T, **changed})  # type: ignore[arg-type]

    def test_copies(self) -> None:
        """Every real sample five times: no ball holds anything, but there are means and kernels."""
        five = np.repeat(X[:24], 6, 0)
        found = measure(self.sets(real=five), ("coverage", "precision", "frechet", "kernel", "cmmd", "vendi"))
        assert set(found.left_out) == {"coverage", "precision"}
        assert "copies of itself" in found.left_out["coverage"]
        assert found.found["kernel"].value == pytest.approx(e.kernel_distance(five, Y).value, rel=1e-6)
        assert found.found["cmmd"].value == pytest.approx(e.cmmd(five, Y).value, rel=1e-6)

    @pytest.mark.parametrize(
        ("changed", "lost"),
        [
            ({"real": X[:4]}, {"coverage", "frechet_infinity"}),
            ({"real": 1e40 * X, "generated": 1e40 * Y, "reference": 1e40 * T}, {"kernel"}),
            ({"real": X * 1e80}, {"coverage", "frechet", "kernel", "frechet_infinity"}),
            ({"generated": np.where(np.arange(120)[:, None] == 3, 0.0, Y)}, {"cmmd", "vendi"}),
            ({"reference": T[:1]}, set()),
        ],
    )
    def test_others(self, changed: dict[str, np.ndarray], lost: set[str]) -> None:
        names = ("coverage", "frechet", "kernel", "frechet_infinity", "cmmd", "vendi")
        found = measure(self.sets(**changed), names)
        assert set(found.left_out) == lost
        assert set(names) - lost <= set(found.found)
        assert all(np.isfinite(found.found[name].value) for name in set(names) - lost)

    def test_evaluate_names_what_is_not_measured(self) -> None:
        rng = np.random.default_rng(0)
        dataset = vector_dataset(rng, np.zeros((2, 6)), (120, 100, 100))
        for split in (dataset.test, dataset.train):
            split.x[:] = split.x[::10].repeat_interleave(10, 0)
        x = rng.normal(size=(100, 6))
        found = e.evaluate(x, None, dataset, [Identity()], metrics=("frechet", "precision", "ms_ssim"))
        assert list(found.metrics["identity"]) == ["frechet"]
        assert "copies" in found.left_out["identity"]["precision"]
        assert "compares images" in found.left_out["any features"]["ms_ssim"]
        assert found.per_class == {}
        with pytest.raises(CallError, match=r"nothing that was asked for can be measured: every real sample"):
            e.evaluate(x, None, dataset, [Identity()], metrics=("precision",))


@pytest.mark.parametrize(
    "bad", [np.full(100, "a"), np.full(100, 0.5), np.full(100, np.nan), np.zeros(99, int)]
)
def test_labels_that_are_none(bad: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    dataset = vector_dataset(rng, np.zeros((2, 6)), (120, 100, 100))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CallError, match="label"):
            e.evaluate(rng.normal(size=(100, 6)), bad, dataset, [Identity()])

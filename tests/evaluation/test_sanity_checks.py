"""That the checks check: `benchmarks/sanity.py` with metrics whose answers are known."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.insert(0, _BENCHMARKS)  # and off again: benchmarks/evaluation.py is not tests/evaluation
try:
    import sanity
    from sanity_checks import criteria, data, metrics, published
finally:
    sys.path.remove(_BENCHMARKS)

SMALL = data.Scale(300, 5)


def cells(check: str, axis: Any, metric: Any, scale: data.Scale = SMALL) -> str:
    found = sanity.curves(check, scale, 2, 0, lambda x, y, seed: {"it": metric(x, y)})
    return sanity.judged(check, found, axis, "it")


def constant(x: np.ndarray, y: np.ndarray) -> float:
    return 1.0


def by_mean(x: np.ndarray, y: np.ndarray) -> float:
    """Knows that only the first coordinate's mean differs."""
    return float(np.clip(1.3 - 1.5 * abs(y[:, 0].mean() - np.median(x[:, 0])), 0.0, 1.0))


def by_radius(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.clip(1.0 - 2.0 * abs(np.linalg.norm(y[0]) - np.linalg.norm(x[0])), 0.0, 1.0))


def by_overlap(x: np.ndarray, y: np.ndarray) -> float:
    """Knows that the real set is the unit cube."""
    return float((y <= 1.0).all(1).mean())


def by_nearest_mode(x: np.ndarray, y: np.ndarray) -> float:
    """Share of the five real modes that have a generated sample near."""
    near = np.linalg.norm(data.PLACES[:5, None] - y[None], axis=2).min(1)
    return float((near < 1.0).mean())


def by_mode_of_sample(x: np.ndarray, y: np.ndarray) -> float:
    near = np.linalg.norm(data.PLACES[:5, None] - y[None], axis=2).min(0)
    return float((near < 2.0).mean())


@pytest.mark.parametrize(
    "check, axis, oracle",
    [
        ("Gaussian mean", "fidelity", by_mean),
        ("Gaussian mean + outlier", "diversity", by_mean),
        ("Gaussian mean + Pareto", "fidelity", by_mean),
        ("One disjoint dimension", "fidelity", by_mean),
        ("Scaling one dimension", "diversity", by_mean),
        ("Hypersphere surface", "fidelity", by_radius),
        ("Mode dropping + invention", "diversity", by_nearest_mode),
        ("Mode dropping + invention", "fidelity", by_mode_of_sample),
    ],
)
def test_a_metric_that_knows_the_truth_passes(check: str, axis: str, oracle: Any) -> None:
    assert cells(check, axis, oracle) == "TT"


def test_the_cubes_share_a_fifth() -> None:
    """At the published n, so that the last point of the curve is exact enough."""
    found = sanity.curves(
        "Hypercube, generated size", data.Scale(1000, 4), 3, 0, lambda x, y, seed: {"it": by_overlap(x, y)}
    )
    assert sanity.judged("Hypercube, generated size", found, "fidelity", "it") == "TT"


@pytest.mark.parametrize(
    "check, axis, expected",
    [
        ("Gaussian mean", "fidelity", "FF"),
        ("Gaussian standard deviation", "diversity", "FF"),
        ("Hypersphere surface", "fidelity", "FF"),
        ("Sequential mode dropping", "fidelity", "TT"),  # dropping modes leaves fidelity alone
        ("Sequential mode dropping", "diversity", "FT"),
        ("Simultaneous mode dropping", "diversity", "FT"),
        ("Sphere vs. torus", "fidelity", "TF"),
        ("Mode collapse", "diversity", "HT"),  # as if all of the real lay inside
        ("Mode collapse", "fidelity", "FT"),
        ("Discrete vs. continuous", "fidelity", "TF"),
        ("Hypercube, sample size", "fidelity", "FT"),
    ],
)
def test_a_constant_metric_fails_what_it_should(check: str, axis: str, expected: str) -> None:
    assert cells(check, axis, constant, data.Scale(40, 3)) == expected


def test_low_and_high_do_not_mix() -> None:
    x = np.array([0.1, 1.0, 10.0])
    low, high = ("d = 1", x, np.array([0.0, 1.0, 0.0])), ("d = 8", x, np.array([0.0, 1.0, 1.0]))
    check = "Gaussian standard deviation"
    for kind in ("purpose", "bounds"):
        assert criteria.cell(check, kind, "diversity", [low, low]) == "low"
        assert criteria.cell(check, kind, "diversity", [high]) == "high"
        assert criteria.cell(check, kind, "diversity", [low, high]) is False


@pytest.mark.parametrize(
    "values, shapes",
    [
        ([0.0, 0.5, 1.0, 0.5, 0.0], {"bell"}),
        ([0.0, 0.5, 0.8, 1.0, 0.0], set()),  # highest 0.2 above the middle
        ([0.9, 0.5, 1.0, 0.5, 0.9], set()),
        ([1.0, 0.7, 0.5, 0.2, 0.1], {"falling", "falling by"}),
        ([1.0, 1.0, 1.0, 1.0, 0.1], {"falling"}),  # nothing until the end
        ([0.1, 0.2, 0.5, 0.7, 1.0], {"rising"}),
        ([0.50, 0.52, 0.54, 0.52, 0.50], {"level", "settled"}),
        ([0.1, 0.3, 0.54, 0.52, 0.50], {"settled", "rising"}),
    ],
)
def test_shapes(values: list[float], shapes: set[str]) -> None:
    x, y = np.arange(5.0), np.array(values)
    judges = {
        "bell": criteria.bell(2.0),
        "falling": criteria.falling,
        "falling by": criteria.falling_by(0.5),
        "rising": criteria.rising,
        "level": criteria.level,
        "settled": criteria.settled,
    }
    assert {name for name, judge in judges.items() if judge(x, y)} == shapes


def test_every_check_has_data_criteria_and_published_cells() -> None:
    assert set(published.CHECKS) == set(data.DATA) == set(criteria.CRITERIA)
    assert all(len(rules) == 2 for rules in criteria.CRITERIA.values())
    counts = {}
    for rows in published.PUBLISHED.values():
        for name, letters in rows.items():
            assert len(letters.split()) == len(published.CHECKS)
            counts[name] = sanity.passed(letters.split())
    assert counts["density"] == (18, 7)
    assert max(c for c, _ in counts.values()) == 18


def test_what_the_data_should_be() -> None:
    rng = np.random.default_rng(0)
    for curve in data.sphere_torus(rng, data.Scale(200, 2)):
        for part in curve.draw(0):
            radius = np.linalg.norm(part, axis=1)
            assert radius.max() <= 0.8 or radius.min() >= 0.9 - 1e-12
    uniform = np.linalg.norm(data.ball(rng, 20_000, 3, 0.8), axis=1) / 0.8
    assert (uniform**3).mean() == pytest.approx(0.5, abs=0.01)
    (curve,) = data.one_disjoint_dimension(rng, data.Scale(50))
    assert curve.x[[0, -1]].tolist() == [1.0, 1000.0]
    assert [part.shape for part in curve.draw(0)] == [(50, 2)] * 2
    for curve in data.discrete_vs_continuous(rng, data.Scale(50, 3)):
        real, generated = curve.draw(2)
        assert np.array_equal(real, real.round()) == (curve.case == "real discrete")
        assert np.array_equal(generated, generated.round()) == (curve.case == "real continuous")


def test_the_metrics_have_the_names_of_the_table() -> None:
    rng = np.random.default_rng(0)
    values = metrics.measure(rng.normal(size=(100, 2)), rng.normal(size=(80, 2)), 0)
    assert set(values) == {name for names in metrics.METRICS.values() for name in names}
    assert all(np.isfinite(list(values.values())))

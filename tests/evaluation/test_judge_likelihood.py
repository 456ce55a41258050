"""The judge `likelihood`: known densities have known bits."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.toy_runners import Toy, one_shot

from niwaki.core.contract import DataSpec, Levels, Real, Tokens, ValueSpec
from niwaki.data import DataConfig, Dataset, Split, load
from niwaki.evaluation.judges import Margins, Tools, judges_for
from niwaki.evaluation.judges.likelihood import EXACT, Likelihood, dequantised
from niwaki.evaluation.metrics.independent import independent_bits
from niwaki.evaluation.statistics.auroc import auroc

DIMS = 12
SCORE = ValueSpec("vector", (), "")


def data(values: Any, make: Any, fingerprint: str = "3" * 64, ood: Any = None) -> Dataset:
    spec = DataSpec({"x": ValueSpec("vector", (DIMS,), "C", values)})
    parts = [Split.of(spec, torch.from_numpy(make(n, n))) for n in (500, 200, 300)]
    made = Dataset("toy", spec, *parts, fingerprint=fingerprint)
    if ood is not None:
        made.extra["ood"] = Split.of(spec, torch.from_numpy(ood))
    return made


def runner(density: Any, spec: ValueSpec, output: ValueSpec = SCORE) -> Toy:
    programs = {
        "sample": one_shot("make", spec, (DIMS,)),
        "log_prob": one_shot("density", output, x=spec),
    }
    return Toy(programs, {"make": lambda z: z, "density": density})


def judge() -> Likelihood:
    return Likelihood(Tools(list))


def steps(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 1]).integers(0, 8, (n, DIMS)).astype(np.uint8)


def test_a_uniform_density_over_the_cells_takes_log2_levels() -> None:
    """Eight levels −1 … 1 with their cells fill a range of 8 steps: p = (8·step)^−d, exactly 3 bits."""
    dataset = data(Levels(8), steps)
    step = 2.0 / 7
    inside = []

    def density(x: np.ndarray) -> np.ndarray:
        inside.append(bool((np.abs(x) <= 1 + step / 2 + 1e-6).all() and len(np.unique(x)) > 0.9 * x.size))
        return np.full(len(x), -DIMS * math.log(8 * step), np.float32)

    model = runner(density, dataset.spec.x)
    evidence = judge().evidence(model, dataset, "test", 1000, 0)
    section = judge().evaluate(evidence, dataset)
    assert all(inside)
    assert evidence.n == 300
    assert section.figures[0].value == pytest.approx(3.0, abs=1e-5)
    # Levels that are drawn evenly take nearly 3 bits by their counts, too.
    assert section.figures[0].reference == pytest.approx(3.0, abs=0.03)
    json.dumps(section.to_json(), allow_nan=False)


def test_noise_stays_in_its_cell_and_follows_the_index() -> None:
    x = np.linspace(-1, 1, 5 * 4, dtype=np.float32).reshape(5, 4)
    y = dequantised(x, 0.1, 0)
    assert (np.abs(y - x) <= 0.05 + 1e-6).all()
    np.testing.assert_array_equal(dequantised(x[:2], 0.1, 0), y[:2])
    assert not np.array_equal(dequantised(x, 0.1, 1), y)


def test_probabilities_are_taken_as_they_are() -> None:
    exact = ValueSpec("vector", (), "", names=(EXACT,))
    dataset = data(Levels(8), steps)

    def told(x: np.ndarray) -> np.ndarray:
        assert len(np.unique(x)) == 8, "no noise"
        return np.full(len(x), -DIMS * math.log(8), np.float32)

    for data_, output in ((dataset, exact), (data(Tokens(8), steps), SCORE)):
        found = judge().evaluate(
            judge().evidence(runner(told, data_.spec.x, output), data_, "test", 100, 0), data_
        )
        assert found.figures[0].value == pytest.approx(3.0, abs=1e-6)


def normals(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng([seed, 2]).normal(size=(n, DIMS)).astype(np.float32)


def gauss(scale: float = 1.0) -> Any:
    def density(x: np.ndarray) -> np.ndarray:
        return -0.5 * (x / scale) ** 2 - 0.5 * math.log(2 * math.pi) - math.log(scale)

    return lambda x: density(x.astype(np.float64)).sum(1).astype(np.float32)


def test_amounts_have_the_entropy_of_their_density() -> None:
    dataset = data(Real(-8, 8), normals)
    section = judge().evaluate(
        judge().evidence(runner(gauss(), dataset.spec.x), dataset, "test", 300, 0), dataset
    )
    entropy = 0.5 * math.log2(2 * math.pi * math.e)
    low, high = section.figures[0].interval or (0, 0)
    assert low < entropy < high
    assert section.figures[0].reference == pytest.approx(section.figures[0].value, abs=0.02)
    assert section.figures[0].name.endswith("(of a density)")


def lines(n: int, seed: int) -> np.ndarray:
    """All dimensions of a sample are nearly the same number: independent dimensions know nothing of it."""
    rng = np.random.default_rng([seed, 3])
    return (rng.normal(size=(n, 1)) + 0.1 * rng.normal(size=(n, DIMS))).astype(np.float32)


def of_lines(deviation: float) -> Any:
    covariance = np.ones((DIMS, DIMS)) + deviation**2 * np.eye(DIMS)
    inverse, log_det = np.linalg.inv(covariance), np.linalg.slogdet(covariance)[1]

    def density(x: np.ndarray) -> np.ndarray:
        x = x.astype(np.float64)
        return -0.5 * (np.einsum("ni,ij,nj->n", x, inverse, x) + log_det + DIMS * math.log(2 * math.pi))

    return density


def test_the_same_model_loses_nothing_and_a_wrong_one_does() -> None:
    dataset = data(Real(-8, 8), lines)
    one, good = judge(), runner(of_lines(0.1), dataset.spec.x)
    margins = one.margins(one.evidence(good, dataset, "validation", 200, 0), dataset, 300)
    margins = Margins.from_json(json.loads(json.dumps(margins.to_json())))
    before = one.evidence(good, dataset, "test", 300, 0)
    # 5 % of what both codes are apart.
    apart = independent_bits(dataset.train.columns["x"], dataset.test.columns["x"], 300).mean()
    apart -= one.evaluate(before, dataset).figures[0].value
    assert margins.axes["fidelity"]["value"] == pytest.approx(0.05 * apart, rel=0.05)
    same = one.compare(before, one.evidence(good, dataset, "test", 300, 0), margins, dataset)
    assert same.axes["fidelity"].outcome == "no loss"
    assert "diversity" not in same.axes
    bad = one.evidence(runner(of_lines(0.3), dataset.spec.x), dataset, "test", 300, 0)
    lost = one.compare(before, bad, margins, dataset)
    assert lost.axes["fidelity"].outcome == "loss"
    assert lost.arrays["rise"].mean() == pytest.approx(lost.axes["fidelity"].delta)
    json.dumps(lost.to_json(), allow_nan=False)


def test_a_model_no_better_than_independent_dimensions_has_no_margin() -> None:
    dataset = data(Real(-8, 8), normals)
    model = runner(gauss(2.0), dataset.spec.x)
    one = judge()
    margins = one.margins(one.evidence(model, dataset, "validation", 200, 0), dataset, 300)
    before = one.evidence(model, dataset, "test", 300, 0)
    after = one.evidence(runner(gauss(2.01), dataset.spec.x), dataset, "test", 300, 0)
    found = one.compare(before, after, margins, dataset)
    assert found.axes["fidelity"].outcome == "inconclusive"
    assert "no better than independent dimensions" in found.axes["fidelity"].text


def test_samples_from_outside_are_told_by_their_likelihood() -> None:
    dataset = data(Real(-8, 8), normals, ood=4 + normals(100, 9))
    model = runner(gauss(), dataset.spec.x)
    assert [j.name for j in judges_for(model, dataset, Tools(list), ("likelihood",))] == ["likelihood"]
    section = judge().evaluate(judge().evidence(model, dataset, "test", 300, 0), dataset)
    assert section.details["ood"]["auroc"] == 1.0
    assert section.details["ood"]["n"] == 100


def test_auroc_is_the_share_of_pairs_and_has_the_known_normal_value() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 40), rng.integers(0, 5, 30)
    by_hand = ((a[:, None] > b) + 0.5 * (a[:, None] == b)).mean()
    assert auroc(a, b)[0] == pytest.approx(by_hand)
    # Two unit normals at distance d: Φ(d/√2).
    value, (low, high) = auroc(rng.normal(1.0, 1, 4000), rng.normal(0, 1, 4000))
    assert low < 0.5 * (1 + math.erf(0.5)) < high
    assert high - low < 0.03
    assert value == pytest.approx(0.76, abs=0.02)


def test_independent_pixels_of_the_digits() -> None:
    """The figure that flows are compared with (docs: 2.428 bits per dimension)."""
    digits = load(DataConfig(source="digits"))
    bits = independent_bits(digits.train.columns["x"], digits.test.columns["x"], 10_000)
    assert len(bits) == len(digits.test)
    assert bits.mean() == pytest.approx(2.428, abs=0.02)
    # The slow way, for one sample.
    train, own = digits.train.x.flatten(1).numpy(), digits.test.x[0].flatten().numpy()
    levels = digits.spec.levels
    slow = [-math.log2(((train[:, i] == v).sum() + 1) / (len(train) + levels)) for i, v in enumerate(own)]
    assert bits[0] == pytest.approx(np.mean(slow))

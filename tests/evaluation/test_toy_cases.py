"""Toy cases with known answers, for the verdict's own statistics and for the verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from niwaki.evaluation import compare
from niwaki.evaluation.pairwise.neighbourhood import neighbourhood, rarefied_coverage
from niwaki.modalities.drawing import blur

D = 6
CENTRES = 20 * np.random.default_rng(0).normal(size=(10, D))


def draw(rng: np.random.Generator, n: int, modes: int) -> np.ndarray:
    return CENTRES[np.arange(n) % modes] + rng.normal(size=(n, D))


def judge(digits: Any, after: np.ndarray) -> Any:
    return compare(digits.samples, after, digits.dataset, digits.extractors, labels=digits.labels)


@pytest.mark.parametrize("kept", [10, 8, 5, 2, 1])
def test_of_ten_modes_rarefied_coverage_tells_the_share_that_is_kept_and_log_realism_does_not_move(
    kept: int,
) -> None:
    rng = np.random.default_rng(kept)
    real, n = draw(rng, 500, 10), 1000
    place = neighbourhood(real, draw(rng, n, kept))
    whole = neighbourhood(real, draw(rng, n, 10))
    share = (
        rarefied_coverage(place.counts(), n, 500).mean() / rarefied_coverage(whole.counts(), n, 500).mean()
    )
    assert share == pytest.approx(kept / 10, abs=0.05)
    assert place.log_realism.mean() == pytest.approx(whole.log_realism.mean(), abs=0.12)


@pytest.mark.parametrize("bad", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_log_realism_falls_in_proportion_to_the_bad_samples(bad: float) -> None:
    rng = np.random.default_rng(1)
    real, good = draw(rng, 500, 10), draw(rng, 1000, 10)
    ruined = 100 * rng.normal(size=(1000, D))
    ends = [neighbourhood(real, x).log_realism.mean() for x in (good, ruined)]
    mixed = np.where(np.arange(1000)[:, None] < bad * 1000, ruined, good)
    expected = (1 - bad) * ends[0] + bad * ends[1]
    assert neighbourhood(real, mixed).log_realism.mean() == pytest.approx(expected, abs=0.03)


def test_one_real_outlier_moves_neither() -> None:
    rng = np.random.default_rng(2)
    real, generated = draw(rng, 500, 10), 40 * rng.normal(size=(600, D))
    with_outlier = np.concatenate([real, np.full((1, D), 400.0)])
    first, second = neighbourhood(real, generated), neighbourhood(with_outlier, generated)
    assert second.log_realism.mean() == pytest.approx(first.log_realism.mean(), abs=0.002)
    one, two = (rarefied_coverage(p.counts(), 600, 250).mean() for p in (first, second))
    assert two == pytest.approx(one, abs=0.005)


def test_a_dropped_class_costs_diversity_is_named_and_leaves_fidelity_clean(digits: Any) -> None:
    rng = np.random.default_rng(0)
    for lost in (0, 6):
        after = digits.samples.copy()
        gone = digits.labels == lost
        after[gone] = digits.samples[rng.choice(np.flatnonzero(~gone), gone.sum())]
        found = judge(digits, after)
        assert (found.fidelity.outcome, found.diversity.outcome) == ("no loss", "loss")
        assert f"The class '{lost}' lost most" in found.diversity.text
        falls = {c: r["before"] - r["after"] for c, r in found.per_class.items()}
        assert max(falls, key=falls.__getitem__) == str(lost)
        assert found.common.found == (f"class {lost}",)


def test_an_eighth_blurred_costs_fidelity_and_leaves_diversity_clean(digits: Any) -> None:
    after = digits.samples.copy()
    after[::8] = blur(after[::8], 2.0, (2, 3))  # a fifth is near the margin: CPUs round to either side of it
    found = judge(digits, after)
    assert (found.fidelity.outcome, found.diversity.outcome) == ("loss", "no loss")
    assert (found.pairs.ranking[:50] % 8 == 0).all()


def test_a_slight_blur_of_all_costs_fidelity_first(digits: Any) -> None:
    found = judge(digits, blur(digits.samples, 0.45, (2, 3)))
    assert found.fidelity.outcome == "loss"
    assert found.diversity.outcome != "loss"


def test_one_ruined_class_is_what_the_most_damaged_have_in_common(digits: Any) -> None:
    after = digits.samples.copy()
    after[digits.labels == 4] = blur(after[digits.labels == 4], 2.0, (2, 3))
    found = judge(digits, after)
    assert found.common.found == ("class 4",)
    assert "'4'" in found.common.text
    assert found.to_json()["common"]["classes"][0]["name"] == "4"


def test_the_region_of_latent_space_that_is_damaged_is_found(digits: Any) -> None:
    rng = np.random.default_rng(3)
    latents = rng.normal(size=(800, 4, 4))
    strength = 0.05 * np.exp(latents[:, 1, 2])[:, None, None, None]
    after = (digits.samples + strength * rng.normal(size=digits.samples.shape)).astype(np.float32)
    found = compare(digits.samples, after, digits.dataset, digits.extractors, latents=latents).common
    assert "latent direction" in found.found
    trend = next(t for t in found.trends if t.name == "direction")
    assert int(np.abs(trend.direction).argmax()) == 6

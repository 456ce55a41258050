"""What damaged samples have in common: planted causes are found, and nothing else."""

from __future__ import annotations

import json
from math import comb

import numpy as np
import pytest

from niwaki.core.contract import CallError
from niwaki.core.store import jsonable
from niwaki.evaluation.equivalence.shared_damage import damage_in_common


def test_the_p_value_of_a_class_is_the_count_of_all_draws() -> None:
    damage = np.arange(40.0)[::-1]
    labels = np.array([0] * 3 + [1] * 2 + [0] * 5 + [1] * 30)  # the worst four: three of class 0, of eight
    found = damage_in_common(damage, labels=labels, names=("a", "b"))
    first = found.classes[0]
    assert first.name == "a"
    assert (first.worst, first.overall) == (0.75, 0.2)
    exact = sum(comb(8, h) * comb(32, 4 - h) for h in (3, 4)) / comb(40, 4)
    assert first.p_value == pytest.approx(exact, rel=1e-9)
    assert first.p_adjusted == pytest.approx(2 * exact, rel=1e-9)  # Holm over the two classes
    assert found.worst == (0, 1, 2, 3)


def test_a_damaged_class_is_named() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 500)
    damage = rng.gamma(2, size=500) + 3 * (labels == 8)
    found = damage_in_common(damage, labels=labels, names=[f"digit {c}" for c in range(10)])
    assert found.found == ("class digit 8",)
    assert "'digit 8'" in found.text
    assert found.classes[0].worst > 4 * found.classes[0].overall


def test_a_direction_of_latent_space_is_found_in_many_dimensions() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=(600, 4, 16))
    axis = rng.normal(size=64)
    axis /= np.linalg.norm(axis)
    damage = np.exp(1.5 * z.reshape(600, -1) @ axis + 0.3 * rng.normal(size=600))
    found = damage_in_common(damage, latents=z)
    assert found.found == ("latent direction",)
    trend = next(t for t in found.trends if t.name == "direction")
    assert np.dot(trend.direction, axis) > 0.9
    assert trend.correlation > 0.8
    assert "direction of latent space" in found.text


def test_damage_in_the_tails_of_latent_space_is_found() -> None:
    rng = np.random.default_rng(2)
    z = rng.normal(size=(400, 8))
    damage = np.linalg.norm(z, axis=1) + 0.3 * rng.normal(size=400)
    found = damage_in_common(damage, latents=z)
    assert found.found == ("latent radius",)
    assert "more distance from the middle" in found.text


def test_where_there_is_nothing_nothing_is_found_in_95_of_100() -> None:
    hits = []
    for seed in range(60):
        rng = np.random.default_rng([seed, 3])
        found = damage_in_common(
            rng.gamma(2, size=200), labels=rng.integers(0, 10, 200), latents=rng.normal(size=(200, 30)),
            permutations=99, seed=seed,
        )  # fmt: skip
        hits.append(bool(found.found))
        if not found.found:
            assert "stands out" in found.text
    assert np.mean(hits) < 0.17  # 5 % of 60: more than 10 has a chance below 0.1 %


def test_equal_damage_has_no_worst() -> None:
    found = damage_in_common(np.zeros(50), labels=np.arange(50) % 2, latents=np.ones((50, 3)))
    assert found.found == ()
    assert found.classes == ()
    assert "alike" in found.text


def test_repeats_exactly_fits_json_and_bad_calls() -> None:
    rng = np.random.default_rng(4)
    damage, z, labels = rng.random(100), rng.normal(size=(100, 5)), rng.integers(0, 3, 100)
    first, second = (damage_in_common(damage, labels=labels, latents=z, seed=5) for _ in range(2))
    assert json.dumps(jsonable(first), allow_nan=False) == json.dumps(jsonable(second))
    with pytest.raises(CallError, match="one label"):
        damage_in_common(damage, labels=labels[:7])
    with pytest.raises(CallError, match="one latent"):
        damage_in_common(damage, latents=z[:7])
    with pytest.raises(CallError, match="NaN"):
        damage_in_common(np.where(damage > 0.9, np.nan, damage))
    with pytest.raises(CallError, match="20 samples"):
        damage_in_common(damage[:5])

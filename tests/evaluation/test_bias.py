from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy.stats import chi2_contingency

from niwaki.core.contract import CallError
from niwaki.evaluation.metrics.bias import attribute_shift
from niwaki.evaluation.statistics import shares


def draw(shares_of: list[float], n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(len(shares_of), n, p=shares_of)


def test_shifts_are_differences_of_shares_sorted_by_size() -> None:
    real = np.repeat([0, 1, 2], [50, 30, 20])
    generated = np.repeat([0, 1, 2, 5], [100, 20, 70, 10])
    found = attribute_shift(real, generated)
    assert [(s.value, round(s.shift, 12)) for s in found.shifts] == [
        (1, -0.2),
        (2, 0.15),
        (5, 0.05),
        (0, 0.0),
    ]
    assert (found.shifts[0].real_count, found.shifts[0].generated_count) == (30, 20)
    assert found.distances["class"].value == pytest.approx(0.2, abs=1e-12)
    interval = shares.difference(20, 200, 30, 100, shares.bonferroni(4))
    assert found.shifts[0].interval == pytest.approx(interval)
    assert [s.value for s in found.clear] == [1, 2]


def test_the_permutation_test_agrees_with_pearsons() -> None:
    real, generated = draw([0.5, 0.3, 0.2], 300, 0), draw([0.42, 0.38, 0.2], 500, 1)
    table = [np.bincount(v, minlength=3) for v in (real, generated)]
    theirs = chi2_contingency(table).pvalue
    ours = attribute_shift(real, generated, permutations=20000).p_values["class"]
    assert ours == pytest.approx(theirs, abs=4 * np.sqrt(theirs * (1 - theirs) / 20000) + 0.01)


def test_permutations_equal_shuffling_the_samples() -> None:
    """The hypergeometric short cut against real shuffles: the floor is the mean distance of both."""
    real, generated = draw([0.6, 0.3, 0.1], 40, 2), draw([0.2, 0.3, 0.5], 25, 3)
    rng = np.random.default_rng(4)
    both, distance = np.concatenate([real, generated]), []
    for _ in range(4000):
        rng.shuffle(both)
        p, q = (np.bincount(v, minlength=3) / len(v) for v in (both[:40], both[40:]))
        distance.append(0.5 * np.abs(p - q).sum())
    found = attribute_shift(real, generated, permutations=4000).distances["class"]
    assert found.floor == pytest.approx(np.mean(distance), abs=5 * np.std(distance) / 60)


def test_equal_frequencies_are_called_shifted_in_at_most_5_of_100() -> None:
    calls, small = [], []
    share = [0.4, 0.2, 0.15, 0.1, 0.05, 0.04, 0.03, 0.03]
    for seed in range(300):
        found = attribute_shift(
            draw(share, 200, 2 * seed), draw(share, 300, 2 * seed + 1), permutations=99, seed=seed
        )
        calls.append(bool(found.clear))
        small.append(found.p_values["class"] <= 0.05)
    assert np.mean(calls) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)
    assert 0.01 <= np.mean(small) <= 0.08


def test_simultaneous_intervals_hold_together() -> None:
    p, q = [0.5, 0.25, 0.15, 0.1], [0.4, 0.3, 0.1, 0.2]
    hold = []
    for seed in range(400):
        found = attribute_shift(draw(p, 150, 2 * seed), draw(q, 200, 2 * seed + 1), permutations=1)
        hold.append(all(s.interval[0] <= q[s.value] - p[s.value] <= s.interval[1] for s in found.shifts))
    assert np.mean(hold) >= 0.93


@pytest.mark.parametrize("q", [[0.25] * 4, [0.3, 0.25, 0.25, 0.2], [0.7, 0.1, 0.1, 0.1]])
def test_the_interval_of_the_distance_holds_the_true_distance(q: list[float]) -> None:
    p, hold = [0.25] * 4, []
    truth = 0.5 * np.abs(np.subtract(p, q)).sum()
    for seed in range(300):
        found = attribute_shift(draw(p, 200, 2 * seed), draw(q, 200, 2 * seed + 1), permutations=99)
        low, high = found.distances["class"].interval
        hold.append(low - 1e-12 <= truth <= high)
    assert np.mean(hold) >= 0.93


def test_a_dropped_value_is_named_and_others_attributes_stay_clean() -> None:
    rng = np.random.default_rng(5)
    real = {"character": rng.integers(0, 4, 800), "font": rng.integers(0, 3, 800)}
    generated = {"character": rng.integers(0, 4, 1000), "font": rng.integers(0, 2, 1000)}
    found = attribute_shift(
        real, generated, names={"font": ["Serif", "Sans", "Mono"], "character": list("abcd")}
    )
    assert (found.shifts[0].attribute, found.shifts[0].name) == ("font", "Mono")
    assert found.shifts[0].interval[1] < -0.2
    assert {s.attribute for s in found.clear} == {"font"}
    assert found.p_values["font"] == pytest.approx(2 / 2000)  # Holm: twice the smallest possible
    assert found.p_values["character"] > 0.05
    record = json.loads(json.dumps(found.to_json()))
    assert record["shifts"][0]["name"] == "Mono"
    assert record["shifts"][0]["clear"] is True
    assert set(record["distances"]) == {"character", "font"}


def test_order_of_samples_and_kind_of_array_do_not_matter() -> None:
    real, generated = draw([0.5, 0.5], 60, 6), draw([0.3, 0.7], 60, 7)
    first = attribute_shift(real, generated)
    second = attribute_shift(torch.from_numpy(real).flip(0), generated[::-1].tolist())
    assert first.to_json() == second.to_json()


def test_one_value_alone_is_no_shift() -> None:
    found = attribute_shift([3, 3, 3], [3, 3])
    assert found.shifts[0].shift == 0
    assert found.distances["class"].value == found.distances["class"].floor == 0
    assert found.p_values["class"] == 1


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(CallError, match="generated lack the attribute 'font'"):
        attribute_shift({"font": [0]}, {})
    with pytest.raises(CallError, match="'fnt' is unknown among the real; did you mean 'font'"):
        attribute_shift({"font": [0]}, {"font": [1], "fnt": [1]})
    with pytest.raises(CallError, match="both be arrays by name"):
        attribute_shift({"font": [0]}, [0])
    with pytest.raises(CallError, match="no generated samples"):
        attribute_shift(np.zeros(3, dtype=int), np.zeros(0, dtype=int))
    with pytest.raises(CallError, match="real values of 'class' must be integers"):
        attribute_shift([0.5], [1])
    with pytest.raises(CallError, match="2 names, but the value 2"):
        attribute_shift([0, 1, 2], [1], names=["a", "b"])

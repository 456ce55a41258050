"""Fronts and their volumes: closed forms, inclusion and exclusion, Monte Carlo."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from niwaki.compression.search.front import hypervolume, hypervolume_over_time, nondominated
from niwaki.core.errors import CallError


def test_the_front_is_what_no_other_point_dominates():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, (60, 3)).astype(float)  # with ties and copies

    def beaten(i):
        return any((a <= x[i]).all() and ((a < x[i]).any() or j < i) for j, a in enumerate(x) if j != i)

    assert nondominated(x) == [i for i in range(len(x)) if not beaten(i)]
    assert nondominated([[1.0, math.inf], [2.0, 3.0], [1.0, 4.0]]) == [1, 2]
    assert nondominated([]) == []


@pytest.mark.parametrize("axes", [1, 2, 3, 4, 5])
def test_one_box_has_the_volume_of_a_box(axes):
    assert hypervolume([[0.5] * axes], [2.0] * axes) == pytest.approx(1.5**axes)
    assert hypervolume([[0.5] * axes, [2.0] * axes, [0.6] * axes], [2.0] * axes) == pytest.approx(1.5**axes)
    assert hypervolume([], [1.0] * axes) == 0.0


@pytest.mark.parametrize("axes", [2, 3, 4, 5])
def test_the_volume_is_that_of_inclusion_and_exclusion(axes):
    rng = np.random.default_rng(axes)
    x, corner = rng.uniform(0, 1, (8, axes)), np.full(axes, 0.9)
    total = 0.0
    for k in range(1, len(x) + 1):
        for part in itertools.combinations(x, k):
            total -= (-1) ** k * np.prod(np.clip(corner - np.max(part, axis=0), 0.0, None))
    assert hypervolume(x, corner) == pytest.approx(total, rel=1e-9)


def test_the_volume_is_the_share_of_random_points_that_the_front_dominates():
    rng = np.random.default_rng(1)
    x = rng.uniform(0.2, 1.0, (30, 4))
    shots = rng.uniform(0.0, 1.0, (200_000, 4))
    hit = np.zeros(len(shots), bool)
    for one in x:
        hit |= (shots >= one).all(1)
    share = hit.mean()
    assert hypervolume(x, np.ones(4)) == pytest.approx(share, abs=4 * math.sqrt(share / len(shots)))


def test_in_logarithms_the_units_of_an_axis_do_not_matter():
    x, corner = np.array([[1.0, 8.0], [4.0, 2.0]]), np.array([16.0, 32.0])
    # ln 16·ln 4 of the first and ln 4·(ln 16 − ln 4) more of the second
    expected = math.log(16) * math.log(4) + math.log(4) * math.log(4)
    assert hypervolume(x, corner, log=(True, True)) == pytest.approx(expected)
    scale = np.array([1e6, 1e-3])
    assert hypervolume(x * scale, corner * scale, log=(True, True)) == pytest.approx(expected)
    assert hypervolume(x, corner, log=(True, False)) == pytest.approx(math.log(16) * 24.0 + math.log(4) * 6.0)


def test_the_volume_grows_with_time_and_ends_as_that_of_all():
    rng = np.random.default_rng(2)
    x, times = rng.uniform(0, 1.2, (40, 3)), rng.permutation(40).astype(float)
    times[:4] = 7.0  # found together
    curve = hypervolume_over_time(times, x, np.ones(3))
    at, volumes = zip(*curve, strict=True)
    assert list(at) == sorted(set(at))
    assert all(a < b for a, b in itertools.pairwise(volumes))
    assert volumes[-1] == pytest.approx(hypervolume(x, np.ones(3)))
    for time, volume in curve:
        assert volume == pytest.approx(hypervolume(x[times <= time], np.ones(3)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: hypervolume([[math.nan, 0]], [1, 1]), "not a number"),
        (lambda: hypervolume([[0] * 6], [1] * 6), "up to 5 axes"),
        (lambda: hypervolume([[0.0, 1.0]], [1, 2], log=(True, False)), "logarithm"),
        (lambda: hypervolume([[1.0, 1.0]], [1, 2, 3]), "2 axes"),
        (lambda: hypervolume([[-math.inf, 1.0]], [1, 2]), "infinite volume"),
        (lambda: hypervolume_over_time([1.0], [], [1.0]), "1 times of 0 points"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(call, words):
    with pytest.raises(CallError, match=words):
        call()

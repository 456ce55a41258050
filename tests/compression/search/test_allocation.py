"""The knapsack against all allocations, one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from niwaki.compression.search.allocation import Limits, Option, allocate, nearest_feasible
from niwaki.core.errors import CallError


def _instance(rng, groups=4, options=4, points=3):
    """Options of random costs: gains among them, and one barred."""
    made = [
        [
            Option(
                float(rng.normal(0.3, 0.4)),
                float(rng.normal(0.3, 0.4)),
                float(rng.uniform(0.1, 1.0)),
                float(rng.integers(1, 100)) * 1e3,
                tuple(rng.uniform(0.0, 1e6, points).tolist()),
            )
            for _ in range(options)
        ]
        for _ in range(groups)
    ]
    made[0][0] = Option(math.inf, 0.0)
    pairs = {
        (a, i, a + 1, j): (float(rng.normal(0, 0.3)), float(rng.normal(0, 0.3)))
        for a in range(groups - 1)
        for i, j in [(1, 2), (2, 2)]
    }
    return made, pairs, Option(0.1, 0.0, 0.5, 2e3, (1e5,) * points)


def _value(groups, pairs, constant, choices):
    chosen = [constant, *(g[c] for g, c in zip(groups, choices, strict=True))]
    added = [v for (a, i, b, j), v in pairs.items() if choices[a] == i and choices[b] == j]
    memory = [sum(m) for m in zip(*(o.memory for o in chosen if o.memory), strict=True)]
    return {
        "fidelity": sum(max(0.0, o.fidelity) for o in chosen) + sum(v[0] for v in added),
        "diversity": sum(max(0.0, o.diversity) for o in chosen) + sum(v[1] for v in added),
        "latency": sum(o.latency for o in chosen),
        "bytes": sum(o.bytes for o in chosen),
        "memory": max(memory),
    }


def _all(groups, pairs, constant):
    for choices in itertools.product(*(range(len(g)) for g in groups)):
        found = _value(groups, pairs, constant, choices)
        if math.isfinite(found["fidelity"]):
            yield choices, found


@pytest.mark.parametrize("minimize", ["latency", "bytes", "damage"])
def test_the_best_of_all_allocations_is_found_and_none_where_there_is_none(minimize):
    rng, feasible = np.random.default_rng(0), 0
    for _ in range(25):
        groups, pairs, constant = _instance(rng)
        limits = Limits(*rng.uniform(0.5, 1.6, 2), *rng.uniform((2.0, 1e5, 1.5e6), (3.5, 3e5, 3e6)))
        within = [
            v
            for _, v in _all(groups, pairs, constant)
            if all(v[n] <= most for n, most in limits.finite().items())
        ]

        def objective(v, limits=limits):
            if minimize == "damage":
                return max(v["fidelity"] / limits.fidelity, v["diversity"] / limits.diversity)
            return v[minimize]

        found = allocate(groups, limits, minimize=minimize, pairs=pairs, constant=constant, gap=0.0)
        if not within:
            assert found is None
            continue
        feasible += 1
        assert found is not None
        said = {n: getattr(found, n) for n in limits.finite()}
        assert said == pytest.approx(_value(groups, pairs, constant, found.choices))
        assert all(said[n] <= most * (1 + 1e-6) for n, most in limits.finite().items())
        assert objective(said) == pytest.approx(min(map(objective, within)), rel=1e-5)
    assert 5 <= feasible <= 20


def test_damage_without_limits_is_counted_in_margins_of_one():
    groups = [[Option(0.9, 0.0), Option(0.0, 0.5), Option(0.4, 0.45)]]
    found = allocate(groups, Limits(), minimize="damage")
    assert found is not None
    assert found.choices == (2,)
    tight = allocate(groups, Limits(fidelity=0.5, diversity=5.0), minimize="damage")
    assert tight is not None
    assert tight.choices == (1,)  # 0/0.5 and 0.5/5
    none = allocate(groups, Limits(fidelity=0.0), minimize="damage")
    assert none is not None
    assert none.choices == (1,)


def test_gains_pay_for_nothing():
    groups = [[Option(-5.0, -5.0, 1.0)], [Option(0.6, 0.0, 1.0), Option(1.2, 0.0, 0.5)]]
    found = allocate(groups, Limits(fidelity=1.0), minimize="latency")
    assert found is not None
    assert found.choices == (0, 0)
    assert found.fidelity == pytest.approx(0.6)


def test_memory_is_the_peak_and_not_the_sum():
    early, late = Option(0, 0, 2.0, memory=(8.0, 0.0)), Option(0, 0, 1.0, memory=(9.0, 1.0))
    groups = [[early, late], [Option(0, 0, 1.0, memory=(0.0, 8.0)), Option(0, 0, 3.0, memory=(0.0, 7.0))]]
    found = allocate(groups, Limits(memory=9.0), minimize="latency")
    assert found is not None
    assert found.choices == (1, 0)
    assert found.memory == 9.0
    lower = allocate(groups, Limits(memory=8.0), minimize="latency")
    assert lower is not None
    assert lower.choices == (0, 0)


def test_what_cannot_be_had_says_what_blocks_and_how_far_it_is():
    # Each group: slow and whole, or fast and damaged; storage is never in the way.
    groups = [[Option(0.0, 0.0, 1.0, 10.0), Option(0.5, 0.0, 0.25, 10.0)] for _ in range(4)]
    limits = Limits(fidelity=1.0, diversity=1.0, latency=2.0, bytes=50.0)
    assert allocate(groups, limits, minimize="latency") is None  # two of four give 2.5 ms
    near = nearest_feasible(groups, limits, gap=0.0)
    assert set(near.blocking) == {"fidelity", "latency"}
    assert near.excess == {"latency": pytest.approx(0.25)}  # against 0.5 of the other axis
    assert near.allocation.latency == pytest.approx(2.5)
    assert near.least == {"fidelity": pytest.approx(1.5), "latency": pytest.approx(2.5)}
    for name, value in near.least.items():
        wider = Limits(**{**vars(limits), name: value})
        assert allocate(groups, wider, minimize="latency") is not None
    kept = nearest_feasible(groups, Limits(latency=4.0))
    assert (kept.excess, kept.blocking, kept.least) == ({}, (), {})


def test_the_nearest_point_is_the_least_sum_of_relative_excesses():
    rng, seen = np.random.default_rng(1), 0
    for _ in range(15):
        groups, pairs, constant = _instance(rng, groups=3)
        limits = Limits(0.6, 0.6, 1.2, 5e4, 9e5)

        def far(v, limits=limits):
            return sum(max(0.0, v[n] / most - 1.0) for n, most in limits.finite().items())

        near = nearest_feasible(groups, limits, pairs=pairs, constant=constant, gap=0.0)
        every = [v for _, v in _all(groups, pairs, constant)]
        assert sum(near.excess.values()) == pytest.approx(min(map(far, every)), abs=1e-5)
        if near.excess:
            seen += 1
            # no allocation keeps those that block together, and one does where any of them is lifted
            kept = {n: getattr(limits, n) for n in near.blocking}
            assert not any(all(v[n] <= m for n, m in kept.items()) for v in every)
            for lifted in kept:
                assert any(all(v[n] <= m for n, m in kept.items() if n != lifted) for v in every)
    assert seen > 5


def test_a_large_instance_comes_within_the_gap():
    rng = np.random.default_rng(2)
    groups = []
    for _ in range(40):
        size = rng.uniform(0.5, 2.0)
        shares = np.sort(rng.uniform(0.05, 1.0, 20))
        groups.append(
            [
                Option(
                    float(0.15 * (1 - s) ** 2 * rng.uniform(0.5, 1.5)),
                    float(0.15 * (1 - s) ** 2 * rng.uniform(0.5, 1.5)),
                    float(size * s * rng.uniform(0.9, 1.1)),
                    float(1e4 * s),
                )
                for s in shares
            ]
        )
    found = allocate(groups, Limits(1.0, 1.0, bytes=3e5), minimize="latency", gap=0.01, seconds=30.0)
    assert found is not None
    assert found.gap <= 0.01
    assert found.fidelity <= 1.0 + 1e-6
    assert found.diversity <= 1.0 + 1e-6
    assert found.bytes <= 3e5 * (1 + 1e-6)
    whole = sum(g[-1].latency for g in groups)
    assert found.latency < 0.9 * whole


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: allocate([[]], Limits(), minimize="latency"), "without options"),
        (lambda: allocate([[Option(math.nan, 0)]], Limits(), minimize="latency"), "not a number"),
        (lambda: Limits(fidelity=-1.0), "at least 0"),
        (
            lambda: allocate([[Option(0, 0)]], Limits(), minimize="latency", pairs={(0, 0, 0, 0): (1, 1)}),
            "two different groups",
        ),
        (lambda: nearest_feasible([[Option(math.inf, 0)]], Limits(latency=1.0)), "barred"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(call, words):
    with pytest.raises(CallError, match=words):
        call()

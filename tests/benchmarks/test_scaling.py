"""The model of communication: what its formulas must be at their ends."""

from __future__ import annotations

import math

import pytest
import scaling
from scaling import Link, all_gather, all_reduce, daly, efficiency, exposed, fitted, lost

LINK = Link(1e-5, 1e9)


def test_a_ring_sends_what_its_formula_says() -> None:
    """Step by step: p − 1 rounds of reduce-scatter and as many of all-gather, each a message of M/p bytes."""
    for ranks in (1, 2, 5, 1024):
        rounds = 2 * (ranks - 1) * (LINK.latency + 1e6 / ranks / LINK.bandwidth)
        assert all_reduce(ranks, 1e6, LINK) == pytest.approx(rounds)
    assert all_gather(2, 1e6, LINK) == pytest.approx(0.5e-3 + 1e-5)


def test_a_tree_is_faster_for_little_and_a_ring_for_much() -> None:
    way = scaling.tree_all_reduce
    assert way(1024, 1e4, LINK) < all_reduce(1024, 1e4, LINK)
    assert way(4, 1e10, LINK) > all_reduce(4, 1e10, LINK)
    assert way(2, 0.0, LINK) == pytest.approx(2 * LINK.latency)


def test_one_gpu_sends_nothing_and_layouts_agree_within_a_machine() -> None:
    for layout in scaling.LAYOUTS.values():
        assert sum(layout(1, 1e9, LINK)) == 0.0
    assert scaling.fsdp(8, 1e9, LINK) == pytest.approx(scaling.hybrid(8, 1e9, LINK))
    assert sum(scaling.fsdp(8, 1e9, LINK)) == pytest.approx(1.5 * sum(scaling.ddp(8, 1e9, LINK)))


def test_communication_is_hidden_but_for_the_last_bucket() -> None:
    assert exposed([0.1] * 10, backward=10.0) == pytest.approx(0.1)  # it keeps pace
    assert exposed([2.0] * 10, backward=10.0) == pytest.approx(11.0)  # it begins at 1 and takes 20
    assert exposed([3.0], backward=10.0) == pytest.approx(3.0)
    assert efficiency(1.0, [0.0]) == 1.0


def test_more_gpus_are_never_more_efficient() -> None:
    for layout in scaling.LAYOUTS.values():
        shares = [efficiency(0.3, layout(gpus, 2e9, Link(1e-5, 12.5e9))) for gpus in scaling.GPUS]
        assert shares == sorted(shares, reverse=True)


def test_the_cadence_of_checkpoints_loses_least() -> None:
    write, between = 30.0, 3600.0 * 50
    every = daly(write, between)
    assert every == pytest.approx(math.sqrt(2 * write * between), rel=0.02)  # Young's for δ ≪ M
    best = min(range(600, 20_000), key=lambda t: lost(write, between, 0.0, t))
    assert every == pytest.approx(best, rel=0.02)
    assert daly(100.0, 40.0) == 40.0


def test_a_link_is_found_from_its_own_times() -> None:
    sizes = [1 << k for k in range(10, 26, 3)]
    found = fitted(4, sizes, [all_reduce(4, size, LINK) for size in sizes])
    assert (found.latency, found.bandwidth) == pytest.approx((LINK.latency, LINK.bandwidth))

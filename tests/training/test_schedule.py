"""Learning rate, averaging decay and seeds follow from the step alone."""

from __future__ import annotations

import itertools
import math

import pytest
from training_toys import Regression

from niwaki.training import TrainConfig, fit
from niwaki.training.schedule import ema_decay, lr_factor, seed_of


def test_warm_up_is_linear_and_meets_the_cosine_at_its_peak():
    assert [lr_factor(t, 100, 4, "cosine") for t in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert lr_factor(4, 100, 4, "cosine") == 1.0
    assert lr_factor(52, 100, 4, "cosine") == pytest.approx(0.5)  # half of the 96 steps after the warm-up
    assert lr_factor(100, 100, 4, "cosine") == pytest.approx(0.0, abs=1e-15)


def test_cosine_is_symmetric_about_its_middle():
    for t in range(51):
        assert lr_factor(t, 100, 0, "cosine") + lr_factor(100 - t, 100, 0, "cosine") == pytest.approx(1.0)
        assert lr_factor(t, 100, 0, "cosine") == pytest.approx(math.cos(math.pi * t / 200) ** 2)


def test_constant_stays_after_the_warm_up():
    assert [lr_factor(t, 10, 2, "constant") for t in range(5)] == [0.5, 1.0, 1.0, 1.0, 1.0]


def test_the_decay_rises_to_its_value():
    assert ema_decay(0.999, 0) == 0.1
    assert ema_decay(0.9, 80) == 0.9
    assert all(ema_decay(0.999, n) <= ema_decay(0.999, n + 1) for n in range(20000))
    assert ema_decay(0.999, 10**6) == 0.999


def test_seeds_differ_wherever_a_counter_does():
    parts = itertools.product((0, 1), ("global", "critic", "penalty"), range(30), range(4), range(3))
    seeds = [seed_of(*p) for p in parts]
    assert len({s & 0xFFFFFFFF for s in seeds}) == len(seeds)  # torch's CPU generator takes the low half
    assert seed_of(1, 2) != seed_of(2, 1)
    assert seed_of(-1) == seed_of(2**64 - 1)


def test_seeds_are_those_of_other_machines():
    # SplitMix64 from state 0 gives 0xe220a8397b1dcdaf as its first number.
    assert seed_of(0) == 0xE220A8397B1DCDAF


def test_the_rate_that_is_used_is_the_rate_of_the_schedule(vectors, tmp_path):
    config = TrainConfig(steps=12, batch=8, lr=0.01, warmup=3, log_every=1, precision="fp32")
    rates: list[float] = []
    fit(
        Regression(), vectors, config, seed=0, progress=lambda step, total, last: rates.append(last["lr/fit"])
    )
    assert rates == [0.01 * lr_factor(t, 12, 3, "cosine") for t in range(12)]

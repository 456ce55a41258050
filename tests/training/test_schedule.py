"""Learning rate, averaging decay and seeds follow from the step alone."""

from __future__ import annotations

import itertools
import math

import pytest
from training_toys import Regression

from niwaki.training import TrainConfig, fit
from niwaki.training.schedule import ema_decay, lr_factor, seed_of
from niwaki.training.schedules import build_schedule, schedule_names
from niwaki_runtime.errors import CallError


def test_warm_up_is_linear_and_meets_the_cosine_at_its_peak():
    assert [lr_factor(t, 100, 4, "cosine") for t in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert lr_factor(4, 100, 4, "cosine") == 1.0
    assert lr_factor(52, 100, 4, "cosine") == pytest.approx(0.5)  # half of the 96 steps after the warm-up
    assert lr_factor(100, 100, 4, "cosine") == pytest.approx(0.0, abs=1e-15)


def test_cosine_is_symmetric_about_its_middle():
    for t in range(51):
        assert lr_factor(t, 100, 0, "cosine") + lr_factor(100 - t, 100, 0, "cosine") == pytest.approx(1.0)
        assert lr_factor(t, 100, 0, "cosine") == pytest.approx(math.cos(math.pi * t / 200) ** 2)


def closed_forms(t: float) -> dict[str, tuple[dict, float]]:
    """name → settings and value at share t of the stage, written out anew."""
    cycle = (0, 1 / 7, 3 / 7, 1)  # of lengths 1 : 2 : 4
    k = 0 if t < cycle[1] else 1 if t < cycle[2] else 2
    within = (t - cycle[k]) / (cycle[k + 1] - cycle[k])
    up = 0.1 + 0.9 * math.sin(math.pi / 2 * t / 0.25) ** 2
    down = 0.01 + 0.99 * math.cos(math.pi / 2 * (t - 0.25) / 0.75) ** 2
    return {
        "constant": ({}, 1.0),
        "cosine": ({"floor": 0.2}, 0.2 + 0.8 * math.cos(math.pi / 2 * t) ** 2),
        "linear": ({"floor": 0.5}, 1 - t / 2),
        "step": ({"at": [0.3, 0.6], "gamma": 0.5}, 1.0 if t < 0.3 else 0.5 if t < 0.6 else 0.25),
        "exponential": ({"end": 0.01}, 10 ** (-2 * t)),
        "cosine_restarts": ({"cycles": 3, "growth": 2.0}, math.cos(math.pi / 2 * within) ** 2),
        "one_cycle": ({"rise": 0.25, "start": 0.1, "end": 0.01}, up if t < 0.25 else down),
        "wsd": ({"decay": 0.25, "floor": 0.1}, 1.0 if t < 0.75 else 1 - 0.9 * (4 * t - 3) ** 0.5),
        "plateau": ({"factor": 0.1}, 1.0),  # as long as nothing is measured
        "range": ({"start": 0.001}, 10 ** (-3 * (1 - t))),
    }


@pytest.mark.parametrize("name", schedule_names())
def test_every_schedule_is_its_closed_form(name):
    settings, _ = closed_forms(0.0)[name]
    function = build_schedule({"name": name, **settings})
    for step in range(140):
        assert function(step, 140) == pytest.approx(closed_forms(step / 140)[name][1], abs=1e-12), step


def test_steps_and_halvings_are_counted_in_steps():
    drops, half = (
        build_schedule({"name": "step", "every": 10}),
        build_schedule({"name": "exponential", "halving": 5}),
    )
    assert [drops(t, 99) for t in (0, 9, 10, 19, 20)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert [half(t, 99) for t in (0, 5, 10)] == pytest.approx([1, 0.5, 0.25])
    assert [build_schedule("step")(t, 100) for t in (49, 50, 75)] == pytest.approx([1, 0.1, 0.01])


@pytest.mark.parametrize("name", schedule_names())
def test_every_schedule_stays_between_0_and_1_to_the_last_step(name):
    function = build_schedule(name)
    assert all(0.0 <= function(t, 50) <= 1.0 for t in range(51))
    assert max(function(t, 50) for t in range(51)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("cosin", "no schedule 'cosin'; did you mean 'cosine"),
        ({"name": "cosine", "flor": 0.1}, "no setting 'flor'; did you mean 'floor'"),
        ({"name": "cosine", "floor": 2}, "'floor' of the schedule 'cosine' must be at most 1, not 2"),
        ({"name": "constant", "x": 2}, "no setting 'x'"),
        ({"floor": 2}, "no schedule 'None'"),
    ],
)
def test_schedules_that_cannot_be_are_refused(schedule, message):
    with pytest.raises(CallError, match=message):
        TrainConfig(schedule=schedule)


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

"""The sampler `masked`: every place is set once, in the step that the schedule says, and stays."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from niwaki_runtime.errors import CallError
from niwaki_runtime.samplers import Masked, MaskedBound, Noise, NumpyBackend, sampler_from_json
from niwaki_runtime.samplers.masked import halton_order

LENGTH, TOKENS = 12, 5
ORDERS = ["independent", "random", "halton", "confidence"]


class Told:
    """A network that notes what it was given; its logits depend on all of it."""

    state = ()

    def __init__(self) -> None:
        self.given: list[np.ndarray] = []

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        self.given.append(tokens)
        table = np.random.default_rng(0).standard_normal((LENGTH, TOKENS + 1, TOKENS))
        said = table[np.arange(LENGTH), tokens].sum(1)  # (n, TOKENS)
        return (said[:, None] + table[:, -1]).astype(np.float32)


def drawn(n: int = 6, start: int = 0, seed: int = 0, conditions: Any = None, **changes: Any):
    network = Told()
    sampler = Masked(LENGTH, TOKENS, grid=(3, 4)).override(**changes)
    made = sampler({"predictor": network}, Noise(NumpyBackend(), seed, start, n), conditions or {})
    return np.asarray(made), network.given


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("steps", [1, 5, 12, 40])
def test_a_token_once_set_stays_and_each_place_is_set_once(order: str, schedule: str, steps: int) -> None:
    x, given = drawn(order=order, schedule=schedule, steps=steps)
    assert len(given) <= steps
    assert (given[0] == TOKENS).all()
    for before, after in zip(given, [*given[1:], x], strict=True):
        known = before != TOKENS
        assert np.array_equal(before[known], after[known])
        assert (after != before).any()  # the network was not called for nothing
    assert x.min() >= 0
    assert x.max() < TOKENS


@pytest.mark.parametrize("order", ["random", "halton", "confidence"])
@pytest.mark.parametrize(("schedule", "steps"), [("linear", 5), ("linear", 12), ("cosine", 5), ("cosine", 8)])
def test_the_schedule_says_how_many_stay_masked(order: str, schedule: str, steps: int) -> None:
    _, given = drawn(order=order, schedule=schedule, steps=steps)
    r = np.arange(1, steps) / steps
    left = 1 - r if schedule == "linear" else np.cos(np.pi / 2 * r)
    expected = [LENGTH, *(int(LENGTH * share + 1e-9) for share in left)]
    counts = [set((tokens == TOKENS).sum(1)) for tokens in given]
    assert counts == [{c} for c in dict.fromkeys(expected)]


def test_places_fall_out_independently_with_the_chance_of_the_reverse_process() -> None:
    _, given = drawn(n=4000, order="independent", steps=4)
    left = [float((tokens == TOKENS).mean()) for tokens in given]
    assert np.allclose(left, [1.0, 0.75, 0.5, 0.25], atol=0.01)
    masked = given[1] == TOKENS
    assert abs(np.corrcoef(masked[:, 0], masked[:, 1])[0, 1]) < 0.06
    again = given[2][masked] == TOKENS  # of those still masked, (1 − 2/4)/(1 − 1/4) stay so
    assert again.mean() == pytest.approx(2 / 3, abs=0.01)


@pytest.mark.parametrize("order", ORDERS)
def test_sample_i_does_not_depend_on_its_batch(order: str) -> None:
    whole, _ = drawn(n=7, order=order, steps=5)
    parts = [drawn(n=m, start=at, order=order, steps=5)[0] for at, m in ((0, 2), (2, 4), (6, 1))]
    assert np.array_equal(whole, np.concatenate(parts))
    assert not np.array_equal(whole, drawn(n=7, order=order, steps=5, seed=1)[0])


@pytest.mark.parametrize("order", ORDERS)
def test_steps_are_shared_by_the_open_places_of_each_prompt(order: str) -> None:
    prompt = np.full((3, LENGTH), -1)
    prompt[0, :4], prompt[1, 3:], prompt[2, ::2] = 1, 2, 3
    x, given = drawn(n=3, order=order, steps=3, prompt="prompt", conditions={"prompt": prompt})
    assert np.array_equal(x[prompt >= 0], prompt[prompt >= 0])
    if order != "independent":
        assert [(t == TOKENS).sum(1).tolist() for t in given] == [[8, 3, 6], [5, 2, 4], [2, 1, 2]]


def test_greedy_is_the_argmax_of_the_network() -> None:
    x, given = drawn(steps=1, temperature=0.0)
    assert np.array_equal(x, Told()(given[0]).argmax(2))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (3, 5), (8, 8), (16, 16)])
def test_the_halton_order_is_a_permutation_that_spreads(height: int, width: int) -> None:
    order = halton_order(height, width)
    assert sorted(order) == list(range(height * width))
    if height == width and height > 4:  # the first quarter meets every quadrant about equally often
        early = (order < height * width // 4).reshape(2, height // 2, 2, width // 2).sum((1, 3))
        assert early.min() >= 0.5 * height * width / 16


@pytest.mark.parametrize("draws", [1, 4, 12])
def test_the_bound_of_a_network_that_sees_nothing_is_its_log_probability(draws: int) -> None:
    """Where logits do not depend on what shows, every mask set says the same in the mean over draws of all
    counts; with one logit for all places, every draw does."""
    logits = np.array([0.3, -1.0, 0.5, 2.0, 0.0])

    def network(tokens: np.ndarray) -> np.ndarray:
        return np.broadcast_to(logits, (*tokens.shape, TOKENS)).astype(np.float32)

    x = np.full((5, LENGTH), 3)
    bound = MaskedBound(LENGTH, TOKENS, draws=draws)({"predictor": network}, noise(5), {"x": x})
    log_p = logits[3] - np.log(np.exp(logits).sum())
    assert np.allclose(bound, LENGTH * log_p, atol=1e-4)


def noise(n: int) -> Noise:
    return Noise(NumpyBackend(), 0, 0, n)


@pytest.mark.parametrize(
    "sampler",
    [
        Masked(LENGTH, TOKENS, order="halton", grid=(3, 4), schedule="cosine", conditions=("class",)),
        Masked(LENGTH, TOKENS, order="confidence", spread=2.0, prompt="prompt"),
        MaskedBound(LENGTH, TOKENS, conditions=("x", "class"), draws=3),
    ],
    ids=["halton", "confidence", "bound"],
)
def test_json_gives_it_back(sampler: Any) -> None:
    assert sampler_from_json(json.loads(json.dumps(sampler.to_json()))) == sampler


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"order": "leftmost"}, "order"),
        ({"schedule": "square"}, "schedule"),
        ({"steps": 0}, "at least 1"),
        ({"order": "halton", "grid": (2, 2)}, "grid"),
        ({"spread": -1.0}, "spread"),
        ({"top_p": 0.0}, "top_p"),
        ({"steps": "many"}, "whole number"),
    ],
)
def test_damaged_fields_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(CallError, match=said):
        Masked(LENGTH, TOKENS).override(**changes)

"""The release gate: its chance is exact, and what it holds back is named."""

from __future__ import annotations

import json

import numpy as np
import pytest

from niwaki.core.contract import CallError
from niwaki.core.store import jsonable
from niwaki.evaluation.extractor_checks.gate import memorisation_gate
from niwaki.evaluation.memorization.copies import Copies, find_copies


def found(rng: np.random.Generator, generated: np.ndarray, train: np.ndarray, test: int = 200) -> Copies:
    return find_copies(
        train,
        rng.normal(size=(test, train.shape[1])),
        generated,
        train_samples=train,
        generated_samples=generated,
        span=8.0,
        levels=256,
        name="identity",
    )


def test_a_model_that_copies_nothing_is_held_back_in_at_most_5_of_100() -> None:
    rng = np.random.default_rng(0)
    train = rng.normal(size=(150, 3))
    held = [not memorisation_gate(found(rng, rng.normal(size=(120, 3)), train)).passed for _ in range(400)]
    assert np.mean(held) <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5
    assert np.mean(held) > 0  # the level is used, not avoided


def test_identical_copies_are_held_back_and_named() -> None:
    rng = np.random.default_rng(1)
    train, generated = rng.normal(size=(300, 6)), rng.normal(size=(250, 6))
    generated[[17, 101]] = train[[40, 7]]
    gate = memorisation_gate(found(rng, generated, train))
    assert not gate.passed
    assert gate.identical == 2
    assert [(s["sample"], s["train_index"]) for s in gate.samples] == [(17, 40), (101, 7)]
    assert "number 17, 101" in gate.text


def test_near_duplicates_are_held_back_though_none_is_identical() -> None:
    rng = np.random.default_rng(2)
    train, generated = rng.normal(size=(300, 6)), rng.normal(size=(250, 6))
    generated[:30] = train[:30] + 0.05 * rng.normal(size=(30, 6))
    gate = memorisation_gate(found(rng, generated, train))
    assert not gate.passed
    assert gate.identical == 0
    assert gate.close > gate.allowed > gate.expected
    assert {s["sample"] for s in gate.samples} <= set(range(30))
    assert gate.reasons[0].startswith(f"{round(250 * gate.close)} of 250 samples")
    assert 250 * gate.close >= 30


def test_a_few_close_ones_are_chance() -> None:
    rng = np.random.default_rng(3)
    train, generated = rng.normal(size=(300, 6)), rng.normal(size=(250, 6))
    gate = memorisation_gate(found(rng, generated, train))
    assert gate.passed
    assert gate.reasons == ()
    assert gate.samples == ()
    assert gate.text.startswith("Passed")


def test_the_more_is_generated_and_tested_the_less_is_allowed() -> None:
    rng = np.random.default_rng(4)
    train = rng.normal(size=(100, 6))
    allowed = [
        memorisation_gate(found(rng, rng.normal(size=(n, 6)), train, test)).allowed
        for n, test in ((100, 100), (500, 400), (2000, 4000))
    ]
    assert allowed[0] > allowed[1] > allowed[2] > 0.01


def test_fits_json_and_bad_calls() -> None:
    rng = np.random.default_rng(5)
    train = rng.normal(size=(100, 6))
    copies = found(rng, train, train)
    record = json.loads(json.dumps(jsonable(memorisation_gate(copies)), allow_nan=False))
    assert record["passed"] is False
    assert record["close"] == 1.0
    assert len(record["samples"]) == 16
    with pytest.raises(CallError, match="level"):
        memorisation_gate(copies, level=0)

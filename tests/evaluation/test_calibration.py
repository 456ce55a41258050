"""Margins that were measured beforehand and kept."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest

from niwaki.core.contract import CallError, NiwakiError
from niwaki.evaluation import Calibration, calibrated, compare
from niwaki.evaluation.equivalence.calibration import calibration_key


@pytest.fixture(scope="module")
def known(digits: Any) -> Calibration:
    made = calibrated(digits.samples[:420], digits.dataset, digits.extractors)
    return Calibration.from_json(json.loads(json.dumps(made.to_json())))


def judge(digits: Any, n: int = 420, **options: Any) -> Any:
    before, after = digits.samples[:n], digits.others[:n]
    return compare(before, after, digits.dataset, digits.extractors, **options)


def test_a_kept_margin_is_the_one_that_would_be_measured_and_the_verdict_says_so(
    digits: Any, known: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    anew = judge(digits)
    assert anew.calibration.stored is False
    assert "stored beforehand" not in anew.diversity.text
    room = sys.modules["niwaki.evaluation.equivalence.compare"]  # the package's own `compare` is the function
    monkeypatch.setattr(room, "calibrated", lambda *_, **__: pytest.fail("it was known"))
    kept = judge(digits, calibration=known)
    for axis in ("fidelity", "diversity"):
        first, second = getattr(anew, axis), getattr(kept, axis)
        assert (second.margin, second.margin_noise) == (first.margin, first.margin_noise)
        assert second.outcome == first.outcome
        assert second.signature == first.signature
        assert "that was stored beforehand" in second.text
    assert kept.to_json()["calibration"]["key"] == known.key


def test_of_anything_else_it_is_measured_anew(digits: Any, known: Calibration) -> None:
    for found in (
        judge(digits, n=410, calibration=known),
        judge(digits, seed=1, calibration=known),
        compare(
            digits.samples[:420],
            digits.others[:200],
            digits.dataset,
            digits.extractors,
            paired=False,
            calibration=known,
        ),
    ):
        assert found.calibration.key != known.key
        assert found.calibration.stored is False
        assert "stored beforehand" not in found.fidelity.text + found.diversity.text


def test_the_key_knows_samples_data_extractors_and_seed(digits: Any) -> None:
    x = digits.samples[:100]
    other = x.copy()
    other[3] += 0.01
    keys = [
        calibration_key(x, digits.dataset, digits.extractors, seed=0),
        calibration_key(other, digits.dataset, digits.extractors, seed=0),
        calibration_key(x[:99], digits.dataset, digits.extractors, seed=0),
        calibration_key(x, digits.dataset, digits.extractors[:1], seed=0),
        calibration_key(x, digits.dataset, digits.extractors, seed=1),
        calibration_key(x, digits.dataset, digits.extractors, seed=0, size=40),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == calibration_key(np.asfortranarray(x), digits.dataset, digits.extractors, seed=0)


def test_the_callers_margin_is_not_called_stored(digits: Any, known: Calibration) -> None:
    found = judge(digits, calibration=known, margins={"diversity": 0.2})
    assert "stored beforehand" in found.fidelity.text
    assert "stored beforehand" not in found.diversity.text


def test_broken_records_and_too_few_samples(digits: Any, known: Calibration) -> None:
    for record in ({}, {"key": "x", "fidelity": {"value": 1, "noise": 0}, "diversity": 3}):
        with pytest.raises(NiwakiError, match="no record of margins"):
            Calibration.from_json(record)
    with pytest.raises(CallError, match="at least 50"):
        calibrated(digits.samples[:20], digits.dataset, digits.extractors)

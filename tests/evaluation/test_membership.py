"""Membership inference: what chance gives, what is planted, and the rate of false claims."""

from __future__ import annotations

import numpy as np
import pytest

from niwaki.evaluation.memorization.membership import membership_test
from niwaki_runtime.errors import CallError


def test_where_nothing_is_told_it_is_rarely_called_a_leak():
    called = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        called += membership_test(rng.normal(size=400), rng.normal(size=400)).leaks
    assert called / 300 < 0.07


def test_a_shift_has_its_closed_forms():
    """Φ(d/√2) is the area, and 1 − Φ(z₉₉ − d) the share found at 1 %."""
    from scipy.special import ndtr, ndtri

    rng = np.random.default_rng(0)
    found = membership_test(rng.normal(1.0, 1.0, 40_000), rng.normal(size=40_000))
    assert found.auc == pytest.approx(ndtr(1 / np.sqrt(2)), abs=0.006)
    assert found.found == pytest.approx(1 - ndtr(ndtri(0.99) - 1.0), abs=0.01)
    assert found.leaks


def test_a_few_members_that_are_known_for_certain_are_a_leak_that_the_area_does_not_show():
    rng = np.random.default_rng(1)
    members = rng.normal(size=1000)
    members[:60] += 8
    found = membership_test(members, rng.normal(size=1000))
    assert found.auc < 0.56
    assert found.found > 0.05
    assert found.leaks


def test_too_few_scores_and_nan_are_refused():
    with pytest.raises(CallError, match="50 members"):
        membership_test(np.zeros(10), np.zeros(100))
    with pytest.raises(CallError, match="finite"):
        membership_test(np.full(60, np.nan), np.zeros(60))

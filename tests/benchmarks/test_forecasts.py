"""The intervals of the table of forecasts."""

from __future__ import annotations

import numpy as np
import pytest
from forecasts import interval


@pytest.mark.parametrize("block", [1, 40, 160, 311])
def test_the_interval_holds_its_own_mean_whatever_rises_at_the_ends(block: int) -> None:
    score = np.linspace(-1, 1, 311) ** 8  # all that counts lies in the first and the last windows
    low, high = interval(score, block)
    assert low - 1e-12 <= score.mean() <= high + 1e-12


def test_single_windows_give_the_standard_error() -> None:
    score = np.random.default_rng(0).normal(0, 1, 400)
    low, high = interval(score, 1)
    assert (high - low) / 2 == pytest.approx(1.96 * score.std() / 20, rel=0.06)


def test_windows_that_say_the_same_widen_it() -> None:
    rng = np.random.default_rng(0)
    score = np.repeat(rng.normal(0, 1, 40), 10)  # 40 windows, each ten times
    widths = [np.subtract(*interval(score, block)[::-1]) for block in (1, 40)]
    assert widths[1] > 2 * widths[0]

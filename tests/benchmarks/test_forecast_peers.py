"""What the sides of the comparison of forecasts are given, and how they are scored."""

from __future__ import annotations

import math

import numpy as np
import pytest
from forecast_peers import cells
from forecasting.tasks import HISTORY, TASKS, Z80, Windows, score_normal, score_paths, windows

ON_BOARD = [name for name in TASKS if name == "membrane"]
OF_STATSMODELS = [name for name in TASKS if name not in ON_BOARD]


@pytest.fixture(scope="module", params=TASKS)
def asked(request: pytest.FixtureRequest) -> Windows:
    if request.param in OF_STATSMODELS:
        pytest.importorskip("statsmodels")
    return windows(TASKS[request.param], 5)


def test_histories_end_where_the_past_of_their_window_ends(asked: Windows) -> None:
    past = asked.rows["past"][:, 0]
    known = asked.rows.get("past_mask", np.ones_like(asked.rows["past"]))[:, 0] > 0
    assert len(past) == 5
    for before, row, measured in zip(asked.history, past, known, strict=True):
        assert len(before) == HISTORY or len(before) < HISTORY
        assert len(before) >= len(row)
        np.testing.assert_allclose(before[-len(row) :][measured], row[measured], rtol=1e-5)
        assert np.isfinite(before).all()


def test_no_side_is_trained_on_what_is_asked(asked: Windows) -> None:
    """The training block ends before the first window's past."""
    assert np.isfinite(asked.train).all()
    first = asked.rows["past"][0, 0]
    pieces = np.lib.stride_tricks.sliding_window_view(asked.train, len(first))
    assert not np.isclose(pieces, first, rtol=1e-6).all(1).any()


def test_scores_of_draws_and_of_their_distribution_agree() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(40, 6))
    truth[3, 2:] = math.nan
    mean, deviation = np.zeros_like(truth), np.ones_like(truth)
    exact = score_normal(mean, deviation, truth)
    drawn = score_paths(rng.normal(size=(40, 4000, 6)), truth)
    np.testing.assert_allclose(drawn["crps"], exact["crps"], atol=0.03)
    assert abs(drawn["coverage"].mean() - exact["coverage"].mean()) < 0.02
    assert exact["coverage"][0] == pytest.approx((np.abs(truth[0]) <= Z80).mean())


def test_a_row_says_value_interval_trainings_and_what_naive_is() -> None:
    row = {"task": "co2", "method": "m", "crps": [[1.0, 3.0], [1.0, 5.0]], "coverage": [0.5, 0.7],
           "seconds": 2.0, "seeded": True}  # fmt: skip
    line = cells(row, 5.0, "ppm")
    assert line[2].startswith("2.500 [")
    assert line[2].endswith("(trainings ± 0.707)")
    assert line[3:] == ["0.50", "60 %", "2", "2.0"]

"""Models of one series, fitted anew to what came before every window: seasonal naive by ourselves, AutoETS
and AutoARIMA of statsforecast, with normal intervals.

AutoETS takes no season above 24: there it is given what an STL decomposition leaves (statsforecast's MSTL),
as its documentation advises, and so is AutoARIMA, whose search over long seasons takes minutes for a window.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from forecasting.tasks import Z80, Task, Windows, score_normal
from niwaki.evaluation.metrics.forecasts import naive_forecast

NEEDS = "statsforecast"
_LONG = 24


def seasonal_naive(task: Task, windows: Windows, seed: int, *, quick: bool = False) -> dict[str, np.ndarray]:
    said = [naive_forecast(h[None], windows.steps, task.season) for h in windows.history]
    mean, deviation = (np.concatenate([pair[k] for pair in said]) for k in (0, 1))
    return score_normal(mean, deviation, windows.truth)


def _of(make: str, **unseasonal: Any) -> Any:
    def forecast(task: Task, windows: Windows, seed: int, *, quick: bool = False) -> dict[str, np.ndarray]:
        from statsforecast import models

        mean, deviation = np.empty((2, len(windows.history), windows.steps))
        for i, history in enumerate(windows.history):
            if task.season > _LONG:
                model = models.MSTL(
                    season_length=task.season, trend_forecaster=getattr(models, make)(**unseasonal)
                )
            else:
                model = getattr(models, make)(season_length=task.season)
            said = model.forecast(y=history.astype(np.float64), h=windows.steps, level=[80])
            mean[i] = said["mean"]
            deviation[i] = (np.asarray(said["hi-80"]) - np.asarray(said["mean"])) / Z80
        return score_normal(mean, deviation, windows.truth)

    return forecast


METHODS = {
    "seasonal naive": (seasonal_naive, False),
    "AutoETS": (_of("AutoETS", model="ZZN"), False),
    "AutoARIMA": (_of("AutoARIMA", seasonal=False), False),
}

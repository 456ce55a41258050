"""niwaki's side: the model `forecaster`, one setting for all tasks but season, dropout and, for the series
with a trend, its level; the temperature of its paths is chosen on validation windows of every training."""

from __future__ import annotations

import numpy as np
import torch

from forecasting.tasks import PATHS, Task, Windows, score_paths
from niwaki import models
from niwaki.data.inputs import make_inputs
from niwaki.evaluation.metrics.forecasts import crps_ensemble
from niwaki.training import TrainConfig, fit

NEEDS = "niwaki"
SETTINGS = {"width": 32, "hidden": 128}
DROPOUT = {"membrane": 0.2}
"""Of the recipe `membrane-forecast`; elsewhere 0.5, which validation preferred to 0.3 on co2."""
STEPS = 300
TEMPERATURES = (1.0, 1.3, 1.6, 2.0)
_DRAWN, _VALIDATED = 30, 64

__all__ = ["METHODS", "NEEDS"]


def forecaster(
    task: Task, windows: Windows, seed: int, *, quick: bool = False, **more: object
) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    dataset = windows.dataset
    dropout = DROPOUT.get(task.name, 0.5)
    settings = {**SETTINGS, "dropout": dropout, "season": task.season, "level": task.level, **more}
    model = models.build("forecaster", settings, dataset.spec)
    steps = 10 if quick else STEPS
    config = TrainConfig(
        steps=steps, batch=64, lr=2e-3, optimizer="adamw", weight_decay=0.1, warmup=min(20, steps // 2),
        ema=0.97, checkpoint_every=0, validate_every=25, keep_best=True,
    )  # fmt: skip
    fit(model, dataset.train, config, seed=seed, validation=dataset.validation)
    model.eval()
    temperature = min(TEMPERATURES, key=lambda t: _validation(model, dataset, t, seed))
    given = {name: np.repeat(windows.rows[name], PATHS, 0) for name in model.conditions}
    n = len(windows.truth)
    made = model.run("forecast", n * PATHS, seed=seed, inputs=given, temperature=temperature).numpy()
    return score_paths(made.reshape(n, PATHS, -1), windows.truth)


def _validation(model: models.GenerativeModel, dataset: object, temperature: float, seed: int) -> float:
    split = dataset.validation  # type: ignore[attr-defined]
    n = min(len(split), _VALIDATED)
    given = {k: np.repeat(v, _DRAWN, 0) for k, v in make_inputs(model, "forecast", n, split).items()}
    made = model.run("forecast", n * _DRAWN, seed=seed, inputs=given, temperature=temperature).numpy()
    truth = split.x[:n].numpy()
    if "x_mask" in split.columns:
        truth = np.where(split.columns["x_mask"].data[:n].numpy() > 0, truth, np.nan)
    return float(np.nanmean(crps_ensemble(made.reshape(n, _DRAWN, *truth.shape[1:]), truth)))


METHODS = {"niwaki forecaster": (forecaster, True)}
"""By name: what forecasts, and whether it depends on a seed."""

"""DeepAR of gluonts (PyTorch), trained on the training block: two layers of 40 units and Student's t, as its
defaults are; the context is the window's past, its lags the steps up to a season and around it."""

from __future__ import annotations

import logging
import tempfile
import warnings

import numpy as np

from forecasting.tasks import PATHS, Task, Windows, score_paths

NEEDS = "gluonts"
EPOCHS, BATCHES = 8, 50
"""400 steps of 32 windows."""


def deepar(task: Task, windows: Windows, seed: int, *, quick: bool = False) -> dict[str, np.ndarray]:
    import lightning.pytorch as lightning
    import pandas as pd
    from gluonts.dataset.common import ListDataset
    from gluonts.torch import DeepAREstimator

    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "gluonts"):
        logging.getLogger(name).setLevel(logging.ERROR)
    lightning.seed_everything(seed, verbose=False)
    freq = "h"  # a name for the step: nothing is derived from it, for lags and features are given
    start = pd.Period("2000-01-01", freq=freq)
    lags = sorted({1, 2, 3, 4, 5, 6, 7, task.season - 1, task.season, task.season + 1})
    with tempfile.TemporaryDirectory() as folder:
        estimator = DeepAREstimator(
            freq=freq, prediction_length=windows.steps, context_length=task.config.options().past,
            lags_seq=lags, time_features=[], num_parallel_samples=PATHS, batch_size=32,
            num_batches_per_epoch=5 if quick else BATCHES,
            trainer_kwargs={
                "max_epochs": 1 if quick else EPOCHS, "logger": False, "enable_progress_bar": False,
                "enable_model_summary": False, "accelerator": "cpu", "default_root_dir": folder,
            },
        )  # fmt: skip
        predictor = estimator.train(ListDataset([{"start": start, "target": windows.train}], freq=freq))
        asked = ListDataset([{"start": start, "target": h} for h in windows.history], freq=freq)
        paths = np.stack([forecast.samples for forecast in predictor.predict(asked)])
    return score_paths(paths, windows.truth)


METHODS = {"gluonts DeepAR": (deepar, True)}

"""A study so small that it takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import niwaki

RECIPE: dict[str, Any] = {
    "name": "toy",
    "data": {"source": "digits"},
    "model": {"name": "vae", "width": 4, "latent": 2, "hidden": 8},
    "train": {
        "steps": 6, "batch": 16, "lr": 1e-3, "device": "cpu", "precision": "fp32", "ema": 0.0,
        "schedule": "constant", "log_every": 3, "checkpoint_every": 2, "validation_batches": 2,
    },
    "evaluate": {"features": ["random"]},
}  # fmt: skip
RATES: dict[str, Any] = {"train.lr": {"low": 1e-4, "high": 1e-1, "log": True}}


def search(out: Path, **given: Any) -> Any:
    recipe = given.pop("recipe", RECIPE)
    given = {"ranges": RATES, "objectives": ["loss"], "trials": 3, "prune": "none", **given}
    return niwaki.tune(recipe, out=out, progress=False, **given)


def losses(record: Any) -> list[float]:
    return [row["values"]["loss"] for row in record.trials]

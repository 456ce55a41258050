"""MLflow: at MLFLOW_TRACKING_URI, or in files inside the run directory."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping
from typing import Any

from PIL import Image

from niwaki.tracking.base import About, Tracker, tracker
from niwaki.tracking.following import leaves

__all__ = ["MLflow"]

MOST = 100
"""Parameters in one call; MLflow takes no more."""


@tracker("mlflow")
class MLflow(Tracker):
    """One run of an experiment called as the project. What belongs together is found by the tag `identity`,
    so that a resumed training goes on in its own run."""

    needs = "mlflow"
    extra = "mlflow"

    def __init__(self, about: About) -> None:
        from mlflow.tracking import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        # MLflow keeps new stores in a database; a file of SQLite needs no server either
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(about.folder / 'mlflow.db').resolve()}"
        self.client: Any = MlflowClient(tracking_uri=uri)
        experiment = self.client.get_experiment_by_name(about.project)
        if experiment is None:
            place = None
            if "MLFLOW_TRACKING_URI" not in os.environ:
                place = (about.folder / "artifacts").resolve().as_uri()
            number = self.client.create_experiment(about.project, artifact_location=place)
        else:
            number = experiment.experiment_id
        found = self.client.search_runs([number], f"tags.identity = '{about.identity}'", max_results=1)
        if found:
            self.run = found[0].info.run_id
            return
        made = self.client.create_run(number, run_name=about.name, tags={"identity": about.identity})
        self.run = made.info.run_id
        self._parameters(leaves(about.settings, "recipe"))

    def _parameters(self, values: Mapping[str, float | str]) -> None:
        from mlflow.entities import Param

        params = [Param(name, str(value)) for name, value in values.items()]
        for at in range(0, len(params), MOST):
            self.client.log_batch(self.run, params=params[at : at + MOST])

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.client.log_metric(self.run, name, value, step=step)

    def picture(self, name: str, step: int, png: bytes) -> None:
        self.client.log_image(self.run, Image.open(io.BytesIO(png)), f"{name}-{step}.png")

    def text(self, name: str, step: int, text: str) -> None:
        self.client.log_text(self.run, text, f"{name}-{step}.txt")

    def summary(self, values: Mapping[str, float | str]) -> None:
        for name, value in values.items():
            if isinstance(value, str):
                self.client.set_tag(self.run, name, value)
            else:
                self.client.log_metric(self.run, name, value)

    def close(self) -> None:
        self.client.set_terminated(self.run)

"""Weights & Biases, offline unless WANDB_MODE says otherwise; `wandb sync` sends what was kept."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from html import escape
from typing import Any

from PIL import Image

from niwaki.tracking.base import About, Tracker, tracker

__all__ = ["WeightsAndBiases"]


@tracker("wandb")
class WeightsAndBiases(Tracker):
    """One run by its identity: what each stage leaves goes into the same one when it is sent."""

    needs = "wandb"
    extra = "wandb"

    def __init__(self, about: About) -> None:
        import wandb

        self.wandb = wandb
        self.run: Any = wandb.init(
            project=about.project,
            name=about.name,
            id=about.identity,
            resume="allow",
            config=dict(about.settings),
            dir=str(about.folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    def picture(self, name: str, step: int, png: bytes) -> None:
        self.run.log({name: self.wandb.Image(Image.open(io.BytesIO(png)))}, step=step)

    def text(self, name: str, step: int, text: str) -> None:
        self.run.log({name: self.wandb.Html(f"<pre>{escape(text)}</pre>")}, step=step)

    def summary(self, values: Mapping[str, float | str]) -> None:
        self.run.summary.update(dict(values))

    def close(self) -> None:
        self.run.finish()

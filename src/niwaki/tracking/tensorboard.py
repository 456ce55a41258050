"""TensorBoard: event files in the run directory. `tensorboard --logdir runs` shows them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from niwaki.tracking.base import About, Tracker, tracker

__all__ = ["TensorBoard"]


@tracker("tensorboard")
class TensorBoard(Tracker):
    """A file of events for every stage that works, all in one folder, which TensorBoard reads as one run."""

    needs = "tensorboard"
    extra = "track"

    def __init__(self, about: About) -> None:
        from torch.utils.tensorboard import SummaryWriter

        first = not any(about.folder.iterdir())
        self.writer: Any = SummaryWriter(str(about.folder))
        if first:
            recipe = json.dumps(about.settings, indent=2, ensure_ascii=False)
            self.writer.add_text("recipe", f"```json\n{recipe}\n```")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()  # what is killed leaves what it had told

    def picture(self, name: str, step: int, png: bytes) -> None:
        rows = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
        self.writer.add_image(name, rows, step, dataformats="HWC")

    def text(self, name: str, step: int, text: str) -> None:
        self.writer.add_text(name, text, step)

    def summary(self, values: Mapping[str, float | str]) -> None:
        # One table of a stage: hundreds of charts of a single point would bury the curves.
        if not values:
            return
        stage = next(iter(values)).partition("/")[0]
        shown = {n.partition("/")[2]: v if isinstance(v, str) else f"{v:.6g}" for n, v in values.items()}
        rows = "\n".join(f"| {name} | {value} |" for name, value in shown.items())
        self.writer.add_text(stage, f"| | |\n|---|---|\n{rows}")

    def close(self) -> None:
        self.writer.close()

"""Samples of a model in training, for the trackers of its run: the same seed each time, so that one sees
them change."""

from __future__ import annotations

import base64
import time
from typing import Any

import numpy as np
import torch

from niwaki.core.contract import GenerativeModel
from niwaki.data import Split
from niwaki.data.inputs import make_inputs
from niwaki.modalities.base import modality_of
from niwaki.tracking import Following
from niwaki_runtime.programs import SAMPLING

__all__ = ["TrackedSamples"]

SAMPLES, COLUMNS = 16, 8
SHARE = 0.03
"""Of the time since the beginning that samples may take, the first ones and the last aside."""


class TrackedSamples:
    """Draws a few samples when a training is validated, and hands them on as a picture or a text.

    Called as `fit`'s `validate`: with the model in evaluation mode, its averaged weights in place. Models
    that make no samples, and runs without trackers, cost nothing.
    """

    def __init__(self, following: Following, split: Split, seed: int) -> None:
        self.following, self.split, self.seed = following, split, seed
        self._began, self._spent, self._longest = time.monotonic(), 0.0, 0.0

    def __call__(self, model: Any, step: int) -> dict[str, float]:
        within = self._spent + self._longest <= SHARE * (time.monotonic() - self._began)
        if within or not self._longest:
            self.draw(model)
        return {}

    def draw(self, model: Any) -> None:
        if not self.following.configs or not isinstance(model, GenerativeModel):
            return
        began = time.monotonic()
        try:
            self._hand_on(model)
        except Exception as error:  # a model that cannot draw yet (no codebook, no scale) trains on
            self.following.note(f"no samples for the trackers yet ({type(error).__name__})")
        took = time.monotonic() - began
        self._spent += took
        self._longest = max(self._longest, took)

    @torch.no_grad()
    def _hand_on(self, model: GenerativeModel) -> None:
        inputs = make_inputs(model, SAMPLING, SAMPLES, self.split)
        made = model.run(SAMPLING, SAMPLES, seed=self.seed, inputs=inputs)
        x = made.detach().cpu().float().numpy() if isinstance(made, torch.Tensor) else np.asarray(made)
        spec = model.spec.x
        modality = modality_of(spec)
        if (rows := modality.rows(x, spec, COLUMNS)) is not None:
            self.following.picture("samples", rows)
        elif modality.draws(spec):
            shown = modality.show(x[0], spec, model.files)
            self.following.picture("sample", _bytes(shown.also or shown.data))
        else:
            said = [modality.say(one, spec, model.files) for one in x[:4]]
            self.following.text("samples", "\n\n".join(said))


def _bytes(address: str) -> bytes:
    """What stands in a `data:` address."""
    return base64.b64decode(address.partition(",")[2])

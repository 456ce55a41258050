"""What is measured is what comes back from disk."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from niwaki.adapters import Adapted, load_into
from niwaki.compression.forward import outputs
from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.models.io import load_model, save_model

__all__ = ["load_step", "save_step"]


def save_step(model: GenerativeModel, directory: Path, original: GenerativeModel) -> GenerativeModel:
    """Write `model` (config, cuts, weights) and return what comes back, which must compute the same, bit for
    bit.

    Raises NiwakiError where it does not.
    """
    model = model.cpu().eval()
    save_model(model, directory)
    again = load_step(directory, original)
    for a, b in zip(outputs(model), outputs(again), strict=True):
        if not torch.equal(a, b):
            raise NiwakiError(
                f"the model read back from {directory} computes something else; "
                "something besides cuts and weights changed in it"
            )
    return again


def load_step(directory: Path, original: GenerativeModel) -> GenerativeModel:
    """A saved step. An adapted module without a factory is cut again from a copy of the original.

    original: the uncompressed model of the plan
    """
    if isinstance(original, Adapted) and not original.config.factory and not original.surgery:
        return load_into(copy.deepcopy(original), directory)
    return load_model(directory)

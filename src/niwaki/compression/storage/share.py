"""Weight sharing: the weights of a layer become a few different values, their zeros stay zeros."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from niwaki.compression.pruning.slots import slots
from niwaki.compression.quantization.norms import fold_norms
from niwaki.compression.storage.clusters import centres, nearest_centre
from niwaki.compression.storage.config import ShareConfig
from niwaki.core.contract import GenerativeModel
from niwaki.core.errors import NothingToDo
from niwaki.surgery.quantized_edit import Quantized

__all__ = ["Shared", "share", "shared"]

_CHANNEL_BINS = 256  # a channel has few weights, and there are many channels


@dataclass(frozen=True)
class Shared:
    """What sharing did.

    model:   the same model with fewer different weights
    errors:  weight → Σ (w − shared)² / Σ w²
    skipped: layer → why it was left alone
    """

    model: GenerativeModel
    errors: dict[str, float]
    skipped: dict[str, str]


def share(
    model: GenerativeModel,
    *,
    clusters: int = 16,
    per: Literal["layer", "channel"] = "layer",
    exclude: tuple[str, ...] = (),
) -> GenerativeModel:
    """A copy of `model` whose convolutions and linear layers (those that sampling runs) have few weights.

    Batch norms go into the layers before them first: each channel's factor would make new values of the few.
    clusters: different values per layer (or per output channel), 2 … 256; zero is one of them where it occurs
    Raises NiwakiError where every layer has no more than that already.
    """
    return shared(model, ShareConfig(clusters=clusters, per=per, exclude=exclude)).model


@torch.no_grad()
def shared(model: GenerativeModel, config: ShareConfig) -> Shared:
    """Cluster the weights (Han et al. 2016, "Deep Compression", arXiv:1510.00149, section 3)."""
    model = copy.deepcopy(model).eval()
    folded = fold_norms(model)
    if folded:
        model.surgery = (*model.surgery, Quantized(folded=folded))
    found, skipped = slots(model, config.exclude)
    errors: dict[str, float] = {}
    for name, slot in found.items():
        old = slot.weight.detach().cpu().float().numpy().astype(np.float64)
        if config.per == "channel":
            rows = np.moveaxis(old, 1 - slot.axis, 0)
            made = np.stack([_clustered(row, config.clusters, bins=_CHANNEL_BINS) for row in rows])
            new = np.moveaxis(made, 0, 1 - slot.axis)
        else:
            new = _clustered(old, config.clusters)
        if np.array_equal(new, old):
            skipped[name] = f"it has no more than {config.clusters} different weights already"
            continue
        slot.weight.copy_(_like(new, slot.weight))
        errors[name] = float(np.square(new - old).sum() / np.square(old).sum())
    if not errors:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
        raise NothingToDo(f"sharing changed nothing ({why or 'no layer has weights to share'})")
    return Shared(model, errors, skipped)


def _clustered(weights: np.ndarray, k: int, **settings: int) -> np.ndarray:
    """Each weight's centre, in its place; zeros are a cluster of their own, and nothing else joins it."""
    there = weights != 0
    values = weights[there]
    out = np.zeros_like(weights)
    if len(values):
        found = centres(values, k - 1 if len(values) < weights.size else k, **settings)
        out[there] = found[nearest_centre(values, found)]
    return out


def _like(values: np.ndarray, weight: Tensor) -> Tensor:
    return torch.from_numpy(values).to(weight.dtype)

"""Every sample of the training split, for what is counted or fitted before the first step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from niwaki.core.contract import Batch, CallError

__all__ = ["read_split"]


def read_split(batches: Callable[[int], Batch], values: Callable[[Batch], Tensor]) -> Tensor:
    """What `values` says of each sample `(n, …)`, by its position in the split.

    batches: those that a stage will train on, as `begin_stage` gets them: within an epoch no sample comes
             twice, so the first batch that brings nothing new is after the last sample
    Raises CallError where batches do not say which samples they hold.
    """
    rows: list[Tensor] = []
    places: list[Tensor] = []
    seen: set[int] = set()
    while True:
        batch = batches(len(rows))
        if batch.index is None:
            raise CallError(
                "the training split cannot be read: its batches do not say which samples they hold"
            )
        fresh = set(batch.index.tolist()) - seen
        if not fresh:
            break
        seen |= fresh
        rows.append(values(batch))
        places.append(batch.index)
    different, which = torch.cat(places).unique(return_inverse=True)
    read = torch.cat(rows)
    found = read.new_empty((len(different), *read.shape[1:]))
    found[which] = read  # a sample that came again has the same values
    return found

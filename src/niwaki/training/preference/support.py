"""How much of what one model makes another one still makes: recall in the values themselves."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["NEIGHBOURS", "distances", "recalled"]

NEIGHBOURS = 5


def distances(a: Tensor, b: Tensor, *, tokens: bool) -> Tensor:
    """Between all rows of two sets of samples `(n, m)` float64: the share of differing tokens, or the root of
    the mean squared difference."""
    rows, others = (x.cpu().flatten(1).double() for x in (a, b))
    if tokens:
        return torch.stack([(row != others).double().mean(1) for row in rows])
    return torch.cdist(rows, others) / rows.shape[1] ** 0.5


def recalled(known: Tensor, made: Tensor, *, tokens: bool) -> Tensor:
    """Whether each known sample lies among the made ones: no further from one of them than that one's fifth
    nearest neighbour among them is (Kynkäänniemi et al. 2019, Equation 1). The mean of the `(n,)` float64
    zeros and ones is the recall of what is known.

    What is thinned out has balls of its own size where it still is, and none where it no longer is: the
    distance between samples says of neither.
    """
    radius = distances(made, made, tokens=tokens).kthvalue(min(NEIGHBOURS + 1, len(made)), dim=1).values
    return (distances(known, made, tokens=tokens) <= radius).any(1).double()

"""Amounts as codes: of μ-law (ITU-T G.711), whose cells are narrow near silence, or stored levels."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError, Levels, ValueSpec

__all__ = ["Codes", "MuLaw", "StoredLevels", "codes_of"]


class Codes(nn.Module, ABC):
    """Each code stands for a cell of the range and is heard as one value inside it.

    n:         codes
    exact:     whether data hold nothing but these values: their probabilities are then those of the data
    values:    of each code `(n,)`
    log_width: logarithm of each cell's width `(n,)`, 0 where `exact`
    """

    values: Tensor
    log_width: Tensor
    exact: bool

    def __init__(self, values: Tensor, log_width: Tensor) -> None:
        super().__init__()
        self.n = len(values)
        self.register_buffer("values", values.float(), persistent=False)
        self.register_buffer("log_width", log_width.float(), persistent=False)

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Values, of any shape → the codes of their cells, int64."""

    def decode(self, codes: Tensor) -> Tensor:
        """Codes → their values, float32."""
        return self.values[codes]


class MuLaw(Codes):
    """Equal cells of F(u) = sgn(u)·ln(1 + μ|u|)/ln(1 + μ), μ = n − 1, u the value brought to −1 … 1. A code
    is heard as what lies in the middle of its cell of F."""

    exact = False

    def __init__(self, n: int, low: float, high: float) -> None:
        self.low, self.radius, self.mu = low, (high - low) / 2, n - 1
        edges = low + self.radius * (1 + self._expanded(torch.arange(n + 1) * (2.0 / n) - 1))
        middles = low + self.radius * (1 + self._expanded((torch.arange(n) + 0.5) * (2.0 / n) - 1))
        super().__init__(middles, edges.diff().log())

    def _expanded(self, f: Tensor) -> Tensor:
        """The inverse of F, float64."""
        f = f.double()
        return f.sign() * torch.expm1(f.abs() * math.log1p(self.mu)) / self.mu

    def encode(self, x: Tensor) -> Tensor:
        u = (x.float() - self.low) / self.radius - 1
        f = u.sign() * torch.log1p(self.mu * u.abs()) / math.log1p(self.mu)
        return ((f + 1) * (self.n / 2)).floor().clamp(0, self.n - 1).long()


class StoredLevels(Codes):
    """The levels that data are stored in."""

    exact = True

    def __init__(self, values: Levels) -> None:
        super().__init__(values.seen(torch.arange(values.n).double()), torch.zeros(values.n))
        self.low, self.step = values.low, values.step

    def encode(self, x: Tensor) -> Tensor:
        return ((x.float() - self.low) / self.step).round().clamp(0, self.n - 1).long()


def codes_of(spec: ValueSpec, n: int, model: str) -> Codes:
    """The stored levels where there are at most n, else n codes of μ-law. Raises CallError for tokens and for
    amounts without bounds."""
    if isinstance(spec.values, Levels) and spec.levels <= n:
        return StoredLevels(spec.values)
    if spec.is_tokens or not math.isfinite(spec.high - spec.low):
        raise CallError(f"'{model}' codes amounts between two bounds; this data set holds {spec.modality}")
    return MuLaw(n, spec.low, spec.high)

"""Generated series beside real ones: how values hang together in time, and what a network makes of them.

Discriminative and predictive score: Yoon, Jarrett & van der Schaar, "Time-series generative adversarial
networks", NeurIPS 2019; here one GRU of 24 units for both, of an exact recipe that takes seconds.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.result import Result, mean_interval, signature, wilson

__all__ = ["autocorrelation_distance", "discriminative_score", "predictive_score", "spectrum_distance"]

UNITS, STEPS, BATCH, RATE = 24, 300, 128, 5e-3
"""Of the networks: hidden units, steps of Adam, sequences in each, learning rate."""
LEAST = 20
"""Series that a network is trained on."""


def autocorrelation_distance(real: np.ndarray, generated: np.ndarray) -> Result:
    """The mean over channels and lags 1 … T/2 of |r(lag) − r̂(lag)|, r the autocorrelation of all series of a
    set together, about their common mean: 0 where values hang together alike, at most 2.

    real, generated: `(n, C, T)`, T ≥ 4
    """
    a, b = _both(real, generated)
    off = np.abs(_autocorrelations(a) - _autocorrelations(b))
    return _plain("autocorrelation_distance", float(off.mean()), a, b)


def _autocorrelations(x: np.ndarray) -> np.ndarray:
    """`(C, T/2)`; of a channel that never changes 0."""
    x = x - x.mean((0, 2), keepdims=True)
    power = (x**2).mean((0, 2))
    rows = [(x[..., lag:] * x[..., :-lag]).mean((0, 2)) for lag in range(1, x.shape[2] // 2 + 1)]
    return np.where(power > 0, np.stack(rows) / np.where(power > 0, power, 1.0), 0.0).T


def spectrum_distance(real: np.ndarray, generated: np.ndarray) -> Result:
    """The share of power that lies at other frequencies, ½ Σ |p(f) − p̂(f)|, p the mean periodogram of a
    channel without its mean, of sum 1; the mean over channels: 0 … 1.

    real, generated: `(n, C, T)`, T ≥ 4
    """
    a, b = _both(real, generated)
    off = np.abs(_spectrum(a) - _spectrum(b)).sum(1) / 2
    return _plain("spectrum_distance", float(off.mean()), a, b)


def _spectrum(x: np.ndarray) -> np.ndarray:
    """`(C, frequencies)` of sum 1; a channel that never changes has all its power at none."""
    power = (np.abs(np.fft.rfft(x - x.mean(2, keepdims=True))) ** 2).mean(0)
    power[:, 0] = 0.0
    total = power.sum(1, keepdims=True)
    power[:, 0] = np.where(total[:, 0] > 0, 0.0, 1.0)
    return power / np.where(total > 0, total, 1.0)


def discriminative_score(real: np.ndarray, generated: np.ndarray, *, seed: int = 0) -> Result:
    """|accuracy − ½| of a network that tells real series from generated ones, on those that it was not
    trained on: 0 where it cannot, ½ where it always can.

    Equal numbers of both (the first of each), half of them to train on; a GRU reads values in the real ones'
    unit, and its last state says which. Windows that overlap lie in both halves: what real series score in
    the place of generated ones is the floor.
    real, generated: `(n, C, T)`, n ≥ 20
    """
    a, b = _both(real, generated)
    n = min(len(a), len(b))
    _enough(n)
    half = n // 2
    first, second = _in_unit(a[:n], a), _in_unit(b[:n], a)
    x = torch.cat([first[:half], second[:half]])
    y = torch.cat([torch.ones(half), torch.zeros(half)])
    reader = _Reader(x.shape[1], 1, seed)
    reader.learn(x, lambda said, rows: F.binary_cross_entropy_with_logits(said[:, -1, 0], y[rows]))
    sides = (first[half:], True), (second[half:], False)
    right = [(reader.say(part)[:, -1, 0] > 0) == kind for part, kind in sides]
    hits = int(torch.cat(right).sum())
    total = 2 * (n - half)
    low, high = (end - 0.5 for end in wilson(hits, total))
    ends = sorted((abs(low), abs(high)))
    interval = (0.0 if low < 0 < high else ends[0], ends[1])
    text = signature("discriminative_score", n=n, units=UNITS, steps=STEPS, seed=seed)
    return Result(abs(hits / total - 0.5), interval, None, None, (len(real), len(generated)), seed, text)


def predictive_score(real: np.ndarray, generated: np.ndarray, *, seed: int = 0) -> Result:
    """The mean absolute error, on real series, of a network that was trained on generated ones to say the
    next value of every channel from those before it, in the real channel's standard deviation: what real
    series in the place of generated ones score is the floor.

    real, generated: `(n, C, T)`, at least 20 generated
    """
    a, b = _both(real, generated)
    _enough(len(b))
    test, x = _in_unit(a, a), _in_unit(b, a)
    reader = _Reader(x.shape[1], x.shape[1], seed)
    reader.learn(x, lambda said, rows: (said[:, :-1] - x[rows, :, 1:].transpose(1, 2)).abs().mean())
    off = (reader.say(test)[:, :-1] - test[..., 1:].transpose(1, 2)).abs().mean((1, 2)).double().numpy()
    text = signature("predictive_score", units=UNITS, steps=STEPS, seed=seed)
    return Result(float(off.mean()), mean_interval(off), None, None, (len(a), len(b)), seed, text)


class _Reader(nn.Module):
    """A GRU over `(n, C, T)` with one layer after it: `(n, T, outputs)`. The same of the same seed."""

    def __init__(self, channels: int, outputs: int, seed: int) -> None:
        super().__init__()
        self.rng = torch.Generator().manual_seed(seed)
        self.cells = nn.GRU(channels, UNITS, batch_first=True)
        self.head = nn.Linear(UNITS, outputs)
        bound = UNITS**-0.5
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-bound, bound, generator=self.rng)

    def forward(self, x: Tensor) -> Tensor:
        said: Tensor = self.head(self.cells(x.transpose(1, 2))[0])
        return said

    def learn(self, x: Tensor, loss: object) -> None:
        """loss: (what is said of the rows, the rows) → a number."""
        optimizer = torch.optim.Adam(self.parameters(), lr=RATE)
        for _ in range(STEPS):
            rows = torch.randint(len(x), (min(BATCH, len(x)),), generator=self.rng)
            optimizer.zero_grad()
            loss(self(x[rows]), rows).backward()  # type: ignore[operator]
            nn.utils.clip_grad_norm_(self.parameters(), 1.0)
            optimizer.step()

    @torch.no_grad()
    def say(self, x: Tensor) -> Tensor:
        return torch.cat([self(part) for part in x.split(512)])


def _both(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As float64 `(n, C, T)`. Raises CallError for other shapes."""
    both = [np.asarray(x, np.float64) for x in (real, generated)]
    both = [x[:, None] if x.ndim == 2 else x for x in both]
    if any(x.ndim != 3 or not len(x) for x in both) or both[0].shape[1:] != both[1].shape[1:]:
        raise CallError(
            f"series must be (n, channels, steps) of one shape, not {both[0].shape} and {both[1].shape}"
        )
    if both[0].shape[2] < 4:
        raise CallError(f"series of {both[0].shape[2]} steps are too short; four are needed")
    return both[0], both[1]


def _enough(n: int) -> None:
    if n < LEAST:
        raise CallError(f"a network needs at least {LEAST} series of each kind, not {n}")


def _in_unit(x: np.ndarray, real: np.ndarray) -> Tensor:
    mean, spread = real.mean((0, 2), keepdims=True), real.std((0, 2), keepdims=True)
    return torch.from_numpy((x - mean) / np.where(spread > 0, spread, 1.0)).float()


def _plain(name: str, value: float, real: np.ndarray, generated: np.ndarray) -> Result:
    text = signature(name, n=len(generated))
    return Result(value, None, None, None, (len(real), len(generated)), None, text)

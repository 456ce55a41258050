"""Milliseconds, bytes and peak memory of plans that were never exported, from some that were: non-negative
least squares on what is computed, written, stored and live at once.

The unit of latency is a fusion group: a layer with weights and what an engine computes with it. The time of a
group is a rate of its kind and precision, times its arithmetic and its written values; where timed plans tell
of one, it is corrected by a factor of the group, drawn towards 1. (Time adds up over sequential groups:
arXiv 2505.13060.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import nnls
from scipy.stats import kendalltau

from niwaki.compression.search.profile import Profile
from niwaki.core.contract import NiwakiError

__all__ = ["CostModel", "Quality", "fit_bytes", "fit_latency", "fit_memory"]

_TRUST = (0.0, 0.03, 0.3)
"""How far factors of groups may leave 1, in units of the weight of a timed plan: 0 keeps them at 1."""
_SLACK = 0.95
"""Quantile of what measured plans cost beyond what was predicted of them, left as room in a budget."""
_TESTED = 4
"""Plans, below which leaving one out tells nothing of a model that is fitted to all of them: the others then
do not tell arithmetic from what every pass costs."""
_UNTESTED = 0.2
"""Room in a budget where that is so."""


@dataclass(frozen=True)
class Quality:
    """How well plans are predicted that the model was not fitted on: each is left out in turn.

    plans: how many there were
    error: median |predicted / measured − 1|
    tau:   Kendall's rank correlation of predicted and measured; NaN where all are equal
    worst: largest measured / predicted − 1: the worst underestimate
    slack: room that is left in a budget
    """

    plans: int
    error: float
    tau: float
    worst: float
    slack: float

    @property
    def text(self) -> str:
        if self.plans < _TESTED:
            return f"fitted to {self.plans} plans, too few to tell how well it predicts others"
        return (
            f"median error {self.error:.1%}, rank correlation {self.tau:.2f}, worst underestimate "
            f"{self.worst:.0%} (each of {self.plans} plans left out in turn)"
        )


@dataclass(frozen=True)
class CostModel:
    """columns: names of what a cost is a sum of; rates: of each; factors: by layer, where groups have some"""

    columns: tuple[tuple[str, ...], ...]
    rates: np.ndarray = field(repr=False)
    factors: dict[str, float]
    quality: Quality
    what: str

    def predict(self, profile: Profile) -> float:
        rows = _ROWS[self.what](profile)
        known = dict(zip(self.columns, self.rates, strict=True))
        total = 0.0
        for (*column, layer), amount in rows.items():
            total += known.get(tuple(column), 0.0) * amount * self.factors.get(layer, 1.0)
        return total

    def parts(self, profile: Profile) -> dict[str, float]:
        """By layer, what it costs of the whole; under an empty name what belongs to none."""
        known = dict(zip(self.columns, self.rates, strict=True))
        out: dict[str, float] = {}
        for (*column, layer), amount in _ROWS[self.what](profile).items():
            cost = known.get(tuple(column), 0.0) * amount * self.factors.get(layer, 1.0)
            out[layer] = out.get(layer, 0.0) + cost
        return out


Row = dict[tuple[str, ...], float]
"""(what, …, layer) → amount; what belongs to no layer has the layer ''."""


def _latency_row(profile: Profile) -> Row:
    row: Row = {("call", ""): 1.0, ("pass", ""): profile.passes}
    for (layer, kind, precision), amount in profile.work.items():
        row["macs", kind, precision, layer] = amount
    for (layer, _, precision), amount in profile.written.items():
        row["written", precision, layer] = amount
    return row


def _bytes_row(profile: Profile) -> Row:
    row: Row = {("bundle", ""): 1.0}
    for bits, weights in profile.stored.items():
        row[_stored(bits), ""] = weights
    return row


def _memory_row(profile: Profile) -> Row:
    return {**_bytes_row(profile), ("live", ""): profile.live}


_ROWS = {"latency": _latency_row, "bytes": _bytes_row, "memory": _memory_row}


def fit_latency(
    profiles: Sequence[Profile], ms: Sequence[float], plans: Sequence[str] | None = None
) -> CostModel:
    """From timed plans; whether groups have factors of their own is decided by the error on plans left out.

    plans: of each, which ones are of one bundle: they are left out together; None where each has its own
    Raises NiwakiError for fewer than three.
    """
    found = min(
        (_fit("latency", profiles, ms, trust, plans) for trust in _TRUST), key=lambda m: m.quality.error
    )
    known = dict(zip(found.columns, found.rates, strict=True))
    # A precision that no timed plan has is as fast as the other one.
    unseen = {
        other: rate
        for column, rate in known.items()
        if (other := _other_precision(column)) is not None and other not in known
    }
    rates = np.append(found.rates, list(unseen.values()))
    return replace(found, columns=(*found.columns, *unseen), rates=rates)


def _other_precision(column: tuple[str, ...]) -> tuple[str, ...] | None:
    other = {"integer": "float", "float": "integer"}.get(column[-1])
    return None if other is None else (*column[:-1], other)


def fit_bytes(
    profiles: Sequence[Profile], sizes: Sequence[float], plans: Sequence[str] | None = None
) -> CostModel:
    """From bundles on disk; weights of as many bits as none of them had count by their bits.

    plans: of each, which ones are of one bundle; None where each has its own
    Raises NiwakiError for fewer than three.
    """
    return _of_stored("bytes", profiles, sizes, plans)


def fit_memory(
    profiles: Sequence[Profile], peaks: Sequence[float], plans: Sequence[str] | None = None
) -> CostModel:
    """From peaks of processes: the engine, weights by how they are stored, and what is live at once.

    plans: of each, which ones are of one bundle; None where each has its own
    Raises NiwakiError for fewer than three.
    """
    return _of_stored("memory", profiles, peaks, plans)


def _of_stored(
    what: str, profiles: Sequence[Profile], values: Sequence[float], plans: Sequence[str] | None
) -> CostModel:
    found = _fit(what, profiles, values, 0.0, plans)
    unseen = [bits for bits in (2, 3, 4, 5, 6, 7, 8, 16) if (_stored(bits),) not in found.columns]
    columns = (*found.columns, *((_stored(bits),) for bits in unseen))
    return replace(found, columns=columns, rates=np.append(found.rates, [bits / 8 for bits in unseen]))


def _stored(bits: int) -> str:
    return f"weights of {bits} bits"


def _fit(
    what: str,
    profiles: Sequence[Profile],
    values: Sequence[float],
    trust: float,
    plans: Sequence[str] | None = None,
) -> CostModel:
    if len(profiles) < 3:
        raise NiwakiError(f"a model of {what} needs at least three measured plans, not {len(profiles)}")
    rows = [_ROWS[what](profile) for profile in profiles]
    y = np.asarray(values, dtype=np.float64)
    of = list(plans) if plans is not None else list(map(str, range(len(rows))))
    others = [[j for j in range(len(rows)) if of[j] != of[i]] for i in range(len(rows))]
    left_out, tested = [], [i for i in range(len(rows)) if _told_by(rows, i, others[i])]
    if len(tested) < 2:
        tested = list(range(len(rows)))
    for i in tested:
        some = others[i] or [j for j in range(len(rows)) if j != i]
        columns, rates, factors = _solve([rows[j] for j in some], y[some], trust)
        known = dict(zip(columns, rates, strict=True))
        left_out.append(
            sum(
                known.get(tuple(c), 0.0) * amount * factors.get(layer, 1.0)
                for (*c, layer), amount in rows[i].items()
            )
        )
    predicted, real = np.maximum(np.asarray(left_out), 1e-12), y[tested]
    under = real / predicted - 1.0
    tau = float(kendalltau(predicted, real).statistic)
    several, slack = len({of[i] for i in tested}), max(0.0, float(np.quantile(under, _SLACK)))
    quality = Quality(
        several, float(np.median(np.abs(predicted / real - 1.0))), tau, float(under.max()),
        slack if several >= _TESTED else min(slack, _UNTESTED),
    )  # fmt: skip
    columns, rates, factors = _solve(rows, y, trust)
    return CostModel(columns, rates, factors, quality, what)


def _told_by(rows: Sequence[Row], i: int, others: Sequence[int]) -> bool:
    """Whether every column of a plan also occurs in another one: else its rate is of this plan alone."""
    known = {key[:-1] for j in others for key, amount in rows[j].items() if amount}
    return all(key[:-1] in known for key, amount in rows[i].items() if amount)


def _solve(
    rows: Sequence[Row], y: np.ndarray, trust: float
) -> tuple[tuple[tuple[str, ...], ...], np.ndarray, dict[str, float]]:
    """min Σ ((Σ rate·amount − y)/y)² over rates ≥ 0, then over factors of the layers ≥ 0 with
    Σ (factor − 1)²/trust² beside it."""
    columns = tuple(sorted({key[:-1] for row in rows for key in row}))
    at = {column: k for k, column in enumerate(columns)}
    amounts = np.zeros((len(rows), len(columns)))
    for i, row in enumerate(rows):
        for (*column, _), amount in row.items():
            amounts[i, at[tuple(column)]] += amount
    scale = np.maximum(amounts.max(axis=0), 1e-300)
    rates = nnls(amounts / scale / y[:, None], np.ones(len(rows)))[0] / scale
    if not trust:
        return columns, rates, {}
    layers = sorted({key[-1] for row in rows for key in row if key[-1]})
    place = {layer: k for k, layer in enumerate(layers)}
    parts, rest = np.zeros((len(rows), len(layers))), np.zeros(len(rows))
    for i, row in enumerate(rows):
        for (*column, layer), amount in row.items():
            cost = rates[at[tuple(column)]] * amount / y[i]
            if layer:
                parts[i, place[layer]] += cost
            else:
                rest[i] += cost
    ridge = np.eye(len(layers)) * np.sqrt(1.0 / len(rows)) * 0.1 / trust
    a = np.concatenate([parts, ridge])
    b = np.concatenate([1.0 - rest, ridge.sum(axis=1)])
    return columns, rates, dict(zip(layers, map(float, nnls(a, b)[0]), strict=True))

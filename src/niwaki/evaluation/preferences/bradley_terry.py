"""Strengths from comparisons of two: P(i is preferred to j) = 1/(1 + exp(s_j − s_i)).

Bradley & Terry, Biometrika 1952; ties are Davidson's, JASA 1970: P(tie) ∝ ν √(π_i π_j), π = exp(s).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from niwaki.core.errors import CallError, NiwakiError
from niwaki.evaluation.statistics.result import Z95

__all__ = ["Answer", "Strengths", "fit_strengths"]

_PRIOR = 0.1
"""Answers that every item is taken to have won and lost against one of strength 0: what always won has a
finite strength."""


@dataclass(frozen=True)
class Answer:
    """One person's choice between two items. winner: 0 the first, 1 the second, None neither."""

    first: str
    second: str
    winner: int | None
    rater: str = ""


@dataclass(frozen=True)
class Strengths:
    """By item, with the mean 0.

    strength:    s
    interval:    95 %, by the spread between raters where there are enough (a rater's answers belong together)
    ties:        ν
    """

    items: tuple[str, ...]
    strength: np.ndarray
    interval: np.ndarray
    covariance: np.ndarray
    ties: float
    n: int
    raters: int

    @property
    def preferred(self) -> np.ndarray:
        """Chance of each to be preferred to an average one."""
        return 1.0 / (1.0 + np.exp(-self.strength))

    def chance(self, a: str, b: str) -> tuple[float, float, float]:
        """That a is preferred to b where one of them is, and its 95 % interval."""
        i, j = self.items.index(a), self.items.index(b)
        gap = self.strength[i] - self.strength[j]
        error = np.sqrt(max(self.covariance[i, i] + self.covariance[j, j] - 2 * self.covariance[i, j], 0.0))
        low, middle, high = (float(1.0 / (1.0 + np.exp(-(gap + z * error)))) for z in (-Z95, 0.0, Z95))
        return middle, low, high

    def ranks(self, item: str) -> tuple[int, int]:
        """The best and the worst rank that are open; 1 is the best."""
        better = sum(self.chance(other, item)[1] > 0.5 for other in self.items if other != item)
        worse = sum(self.chance(item, other)[1] > 0.5 for other in self.items if other != item)
        return 1 + better, len(self.items) - worse


def fit_strengths(answers: Sequence[Answer]) -> Strengths:
    """Maximum likelihood with a weak prior. Raises CallError without answers, NiwakiError where items were
    never compared, directly or through others."""
    if not answers:
        raise CallError("there are no answers yet")
    items = tuple(sorted({name for answer in answers for name in (answer.first, answer.second)}))
    place = {name: k for k, name in enumerate(items)}
    pairs = np.array([[place[a.first], place[a.second]] for a in answers])
    outcome = np.array([2 if a.winner is None else a.winner for a in answers])
    _connected(items, pairs)
    tied = bool((outcome == 2).any())
    k = len(items)

    def split(parameters: np.ndarray) -> tuple[np.ndarray, float]:
        return parameters[:k], float(parameters[k]) if tied else -np.inf

    def probabilities(parameters: np.ndarray) -> np.ndarray:
        strength, tie = split(parameters)
        first, second = strength[pairs[:, 0]], strength[pairs[:, 1]]
        logits = np.stack([first, second, tie + (first + second) / 2], axis=1)
        logits -= logits.max(1, keepdims=True)
        weights = np.exp(logits)
        return np.asarray(weights / weights.sum(1, keepdims=True))

    def scores(parameters: np.ndarray) -> np.ndarray:
        """Of every answer the gradient of its log-likelihood `(n, parameters)`."""
        left = np.eye(3)[outcome] - probabilities(parameters)
        rows = np.zeros((len(outcome), len(parameters)))
        index = np.arange(len(outcome))
        rows[index, pairs[:, 0]] += left[:, 0] + left[:, 2] / 2
        rows[index, pairs[:, 1]] += left[:, 1] + left[:, 2] / 2
        if tied:
            rows[:, k] = left[:, 2]
        return rows

    def prior(strength: np.ndarray) -> tuple[float, np.ndarray]:
        # log σ(s) + log σ(−s) for every item: one won, one lost, each counted _PRIOR times
        value = _PRIOR * float(np.sum(np.logaddexp(0, strength) + np.logaddexp(0, -strength)))
        return value, _PRIOR * np.tanh(strength / 2)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        chosen = probabilities(parameters)[np.arange(len(outcome)), outcome]
        value, slope = prior(split(parameters)[0])
        gradient = -scores(parameters).sum(0)
        gradient[:k] += slope
        return value - float(np.log(np.maximum(chosen, 1e-300)).sum()), gradient

    start = np.zeros(k + int(tied))
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-13, "gtol": 1e-9}
    )
    best = found.x
    raters = {
        rater: [i for i, a in enumerate(answers) if a.rater == rater] for rater in {a.rater for a in answers}
    }
    covariance = _covariance(loss, scores, best, list(raters.values()))
    strength = best[:k] - best[:k].mean()
    centre = np.eye(k) - 1.0 / k
    covariance = centre @ covariance[:k, :k] @ centre
    error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    interval = np.stack([strength - Z95 * error, strength + Z95 * error], axis=1)
    ties = float(np.exp(best[k])) if tied else 0.0
    return Strengths(items, strength, interval, covariance, ties, len(answers), len(raters))


def _covariance(loss, scores, best: np.ndarray, groups: list[list[int]]) -> np.ndarray:  # type: ignore[no-untyped-def]
    """H⁻¹ G H⁻¹, G the sum over raters of the outer products of their scores (Huber 1967; Liang & Zeger
    1986), where there are enough raters; else H⁻¹."""
    step = 1e-5
    hessian = np.stack(
        [(loss(best + step * e)[1] - loss(best - step * e)[1]) / (2 * step) for e in np.eye(len(best))]
    )
    inverse = np.linalg.pinv((hessian + hessian.T) / 2)
    if len(groups) < 2 * len(best):
        return np.asarray(inverse)
    rows = scores(best)
    total = np.stack([rows[group].sum(0) for group in groups])
    factor = len(groups) / (len(groups) - 1)
    return np.asarray(inverse @ (factor * total.T @ total) @ inverse)


def _connected(items: Sequence[str], pairs: np.ndarray) -> None:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(items),) * 2)
    count, part = connected_components(graph, directed=False)
    if count > 1:
        apart = [items[int(np.flatnonzero(part == c)[0])] for c in range(2)]
        raise NiwakiError(
            f"'{apart[0]}' and '{apart[1]}' were never compared, neither directly nor through others: their "
            "strengths cannot be put beside each other"
        )

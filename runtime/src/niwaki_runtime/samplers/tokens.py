"""From logits to one token, in numpy, in one place: bias, penalty, temperature, top-k, top-p, min-p, and the
inverse of the distribution function.

The order is that of `transformers`: bias and penalty change the logits, temperature scales them, and what
each of the filters keeps is what the next one sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from niwaki_runtime.errors import CallError

__all__ = [
    "Choice",
    "Chooses",
    "choose",
    "filter_logits",
    "log_probability",
    "penalize",
    "pick",
    "softmax",
]


@dataclass(frozen=True)
class Choice:
    """How one token is chosen.

    temperature: 0 is greedy
    top_k:       keeps the k likeliest; 0 keeps all
    top_p:       keeps the likeliest until they hold this share (Holtzman et al. 2020); 1 keeps all
    min_p:       keeps what is at least this share of the likeliest (Nguyen et al. 2024); 0 keeps all
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if self.temperature < 0.0 or self.top_k < 0 or not 0.0 < self.top_p <= 1.0:
            raise CallError(
                "temperature and top_k must not be negative and top_p must lie in (0, 1], "
                f"not {self.temperature}, {self.top_k} and {self.top_p}"
            )
        if not 0.0 <= self.min_p <= 1.0:
            raise CallError(f"min_p must lie in [0, 1], not {self.min_p}")

    def __call__(self, logits: np.ndarray, u: np.ndarray) -> np.ndarray:
        """One token for each row of logits `(n, V)`, by uniform numbers `(n, 1)`: `(n,)` int64."""
        return choose(
            logits, u, temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p
        )

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """How likely each token is to be chosen: rows of float64, from logits `(n, V)`."""
        if self.temperature == 0.0:
            logits = np.asarray(logits)
            return np.eye(logits.shape[1])[np.argmax(logits, axis=1)]
        return softmax(
            filter_logits(
                logits, temperature=self.temperature, top_k=self.top_k, top_p=self.top_p, min_p=self.min_p
            )
        )


class Chooses:
    """A sampler with the fields of a `Choice`."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float

    @property
    def choice(self) -> Choice:
        """How it chooses. Raises CallError for settings that choose no token."""
        return Choice(self.temperature, self.top_k, self.top_p, self.min_p)


def penalize(logits: np.ndarray, seen: np.ndarray, penalty: float) -> np.ndarray:
    """Logits `(n, V)` float64 of tokens that a row has seen: positive ones divided by `penalty`, others
    multiplied (Keskar et al. 2019, "CTRL").

    seen: tokens `(n, t)`; those outside 0 … V − 1 are passed over
    """
    z = np.array(logits, dtype=np.float64)
    rows, places = np.nonzero((seen >= 0) & (seen < z.shape[1]))
    hit = np.zeros(z.shape, dtype=bool)
    hit[rows, seen[rows, places]] = True
    return np.where(hit, np.where(z > 0, z / penalty, z * penalty), z)


def filter_logits(
    logits: np.ndarray,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> np.ndarray:
    """Logits `(n, V)` float64 after temperature, top-k, top-p and min-p; what is cut off is −∞.

    Ties at the k-th logit are kept, so the result does not depend on a sort's order.
    """
    z = np.asarray(logits, dtype=np.float64) / temperature
    if 0 < top_k < z.shape[1]:
        kth = np.partition(z, -top_k, axis=1)[:, -top_k, None]
        z = np.where(z < kth, -np.inf, z)
    if top_p < 1.0:
        order = np.argsort(-z, axis=1, kind="stable")
        p = softmax(np.take_along_axis(z, order, axis=1))
        late = np.cumsum(p, axis=1) - p >= top_p  # the token that crosses top_p stays,
        late[:, 0] = False  # and so does the likeliest
        cut = np.zeros_like(z, dtype=bool)
        np.put_along_axis(cut, order, late, axis=1)
        z = np.where(cut, -np.inf, z)
    if min_p > 0.0:
        z = np.where(z < z.max(axis=1, keepdims=True) + np.log(min_p), -np.inf, z)
    return z


def softmax(z: np.ndarray) -> np.ndarray:
    """Rows of probabilities, float64."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def log_probability(logits: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """log p, in nats `(n,)` float64, of the `chosen` token of each row of logits `(n, V)`."""
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(axis=1, keepdims=True)
    said = np.take_along_axis(z, chosen[:, None], axis=1)[:, 0]
    return np.asarray(said - np.log(np.exp(z).sum(axis=1)))


def choose(
    logits: np.ndarray,
    u: np.ndarray,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
) -> np.ndarray:
    """One token per row `(n,)` int64: inverse CDF at u ∈ (0, 1) in float64; temperature 0 is greedy."""
    if temperature == 0.0:
        return np.argmax(np.asarray(logits), axis=1).astype(np.int64)
    return pick(
        softmax(filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)), u
    )


def pick(p: np.ndarray, u: np.ndarray) -> np.ndarray:
    """One token per row `(n,)` int64 of probabilities `(n, V)`: the inverse of their sums at u ∈ (0, 1)."""
    cdf = np.cumsum(p, axis=1)
    picked = (cdf < u.reshape(-1, 1) * cdf[:, -1:]).sum(axis=1)
    return np.minimum(picked, p.shape[1] - 1).astype(np.int64)

"""From logits to one token, in numpy, in one place: temperature, top-k, top-p and the inverse CDF."""

from __future__ import annotations

import numpy as np

__all__ = ["choose", "filter_logits", "log_probability"]


def filter_logits(
    logits: np.ndarray, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> np.ndarray:
    """Logits `(n, V)` float64 after temperature, top-k and top-p (Holtzman et al. 2020); what is cut off is
    −∞.

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
) -> np.ndarray:
    """One token per row `(n,)` int64: inverse CDF at u ∈ (0, 1) in float64; temperature 0 is greedy."""
    if temperature == 0.0:
        return np.argmax(np.asarray(logits), axis=1).astype(np.int64)
    p = softmax(filter_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p))
    cdf = np.cumsum(p, axis=1)
    picked = (cdf < u.reshape(-1, 1) * cdf[:, -1:]).sum(axis=1)
    return np.minimum(picked, p.shape[1] - 1).astype(np.int64)

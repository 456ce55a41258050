"""Language models: bits per byte on the test split for fidelity, distinct n-grams of samples for diversity.

Both are paired (the same windows of text, the same noise). A row has lost nothing where the whole 95 %
interval of its loss lies below a margin that stands here, before any row is made.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from compression_rows.subject import Subject
from compression_rows.timing import BATCHES
from niwaki.adapters.language import bits_per_token, bundle_bits_per_token
from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.result import mean_interval
from niwaki_runtime.bundle import Bundle

__all__ = ["distinct", "paired_verdict", "tokens_judged"]

MARGIN = {"fidelity": 0.01, "diversity": 0.05}
"""Share of the uncompressed model's own figure: 1 % more bits per byte, 5 % fewer different n-grams."""
WINDOWS, QUICK_WINDOWS = 256, 16
N = 6
"""Length of the n-grams, in tokens. Bytes: about a word."""
GROUPS = 8


def distinct(tokens: np.ndarray, n: int = N) -> float:
    """Different n-grams over all n-grams of token sequences `(m, length)`: 1 where none occurs twice.

    Li et al. 2016, "A diversity-promoting objective function for neural conversation models" (distinct-n).
    Raises CallError for sequences shorter than n.
    """
    if tokens.ndim != 2 or tokens.shape[1] < n or not len(tokens):
        raise CallError(f"n-grams of {n} need sequences (m, length ≥ {n}), not {tokens.shape}")
    grams = np.lib.stride_tricks.sliding_window_view(tokens, n, axis=1).reshape(-1, n)
    return len(np.unique(grams, axis=0)) / len(grams)


def paired_verdict(loss: np.ndarray, before: float, axis: str) -> dict[str, Any]:
    """Outcome, Δ, interval and margin of paired losses `(m,)` (positive is worse), as `compare` says it."""
    low, high = mean_interval(loss)
    margin = MARGIN[axis] * before
    outcome = "no loss" if high < margin else "loss" if low > margin else "inconclusive"
    delta = float(np.mean(loss))
    return {
        "outcome": outcome,
        "delta": delta,
        "interval": [low, high],
        "margin": margin,
        "n": len(loss),
        "text": f"{axis}: {outcome}; Δ {delta:+.4f} ({low:+.4f} … {high:+.4f}), margin {margin:.4f}",
    }


def tokens_judged(subject: Subject, found: Bundle) -> dict[str, Any]:
    """Bits per byte and distinct n-grams before and after, with the verdict on each."""
    x = subject.dataset.test.x[: QUICK_WINDOWS if subject.quick else WINDOWS]
    before, after = bits_per_token(subject.model, x), bundle_bits_per_token(found, x, batch=max(BATCHES))
    made = found.sample(subject.n, seed=subject.seed, condition=subject.asked[0], batch=max(BATCHES))
    parts = np.array_split(np.arange(subject.n), min(GROUPS, subject.n))
    variety = np.array([[distinct(s[p]) for p in parts] for s in (subject.before, made)])
    return {
        "verdict": {
            "fidelity": paired_verdict(after - before, float(before.mean()), "fidelity"),
            "diversity": paired_verdict(variety[0] - variety[1], float(variety[0].mean()), "diversity"),
        },
        "bits_per_byte": {"value": float(after.mean()), "interval": list(mean_interval(after))},
        "distinct": {"value": float(variety[1].mean()), "interval": list(mean_interval(variety[1]))},
        "signature": f"bits per byte:windows={len(x)}|distinct-{N}:samples={subject.n},groups={len(parts)}",
    }

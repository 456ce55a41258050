"""Models of text with a known loss: every distribution is at hand, so that damage is exact."""

from __future__ import annotations

import numpy as np

from niwaki.evaluation.equivalence.text import TextComparison, compare_text
from niwaki.evaluation.equivalence.text_margins import mixed, text_margins, vocabularies, without

LEVELS, LENGTH = 64, 32
ZIPF = 1.0 / np.arange(2, LEVELS + 2)
SHARE = ZIPF / ZIPF.sum()


def windows(n: int, rng: np.random.Generator, loose: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (n, length) and log p of every token (n, length, levels): contexts that favour some tokens each,
    the more the smaller `loose`; over all contexts the shares are those of SHARE."""
    p = rng.gamma(loose * SHARE, size=(n, LENGTH, LEVELS)) + 1e-9
    p /= p.sum(-1, keepdims=True)
    drawn = (p.cumsum(-1) < rng.random((n, LENGTH, 1))).sum(-1)
    return np.minimum(drawn, LEVELS - 1), np.log(p)


def taken(log_p: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    return np.take_along_axis(log_p, tokens[..., None], -1)[..., 0]


def damaged(kind: str, amount: float, n: int, seed: int) -> TextComparison:
    """The verdict on a model of which `amount` is random or whose vocabulary lost so much of the text."""
    rng = np.random.default_rng([seed, 11])
    margins = text_margins([windows(n, rng)], SHARE, n=n, seed=seed)
    tokens, log_p = windows(n, rng)
    before = taken(log_p, tokens)
    after = before + 0.02 * rng.normal(size=before.shape)  # rounding, different at every token
    if kind == "random" and amount:
        after = mixed(after, SHARE[tokens], amount)
    elif amount:
        part = np.zeros(LEVELS, bool)
        while (
            SHARE[part].sum() < amount
        ):  # parts that hold enough are lost, in as many windows as make it exact
            part |= vocabularies(SHARE, rng, 1)[0]
        some = rng.random(n) < amount / SHARE[part].sum()
        gone = np.maximum(without(log_p, tokens, part), -60.0)
        after = np.where(some[:, None], gone, after)
    return compare_text(before, np.minimum(after, 0.0), margins, seed=seed)


def rates(kind: str, amount: float, repeats: int, n: int = 300) -> dict[str, float]:
    """How often each outcome comes, everything drawn afresh."""
    axis = "fidelity" if kind == "random" else "diversity"
    found = [getattr(damaged(kind, amount, n, seed), axis).outcome for seed in range(repeats)]
    return {o: found.count(o) / repeats for o in ("no loss", "inconclusive", "loss")}

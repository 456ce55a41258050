"""Margins for models of text: damage of known size, planted into the probabilities before.

Nothing has to be sampled: what a damaged model would predict follows from what the model predicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from niwaki.core.contract import CallError
from niwaki.evaluation.equivalence.margins import LEAST, LEVEL, SHARE, Margin
from niwaki.evaluation.equivalence.text import FEWEST, bits, mean_change, rarefied_coverage_of_text
from niwaki.evaluation.statistics.result import Z95

__all__ = [
    "cost_of_chance",
    "damaged_windows",
    "frequencies",
    "margins_of_damage",
    "mixed",
    "text_margins",
    "vocabularies",
    "without",
]

SETS = 100
"""Parts of the vocabulary that are planted as lost."""

Blocks = Iterable[tuple[np.ndarray, np.ndarray]]


def text_margins(
    blocks: Blocks, share: np.ndarray, *, n: int, bytes_per_token: float = 1.0, seed: int = 0
) -> dict[str, Margin]:
    """Both margins, of windows that are not of the test split.

    blocks: tokens `(b, length)` and log p of every token at every place `(b, length, V)`, in nats, by the
            model before; a few windows at a time
    share:  of each token in the training split `(V,)`, see `frequencies`
    n:      windows of the test split that the verdict will rest on

    Fidelity: q = 0.95 p + 0.05 u, u the frequencies: 5 % of the tokens are said without looking. Its mean
    cost in bits per byte; it is at most −log₂ 0.95 = 0.074 bits per token. A model that is too sure of itself
    gains by a little of u; then p is what gains most, and the damage is 5 % beyond that.
    Diversity: q = 0 for part of the vocabulary that makes up 5 % of the text, p / (1 − p(part)) elsewhere, by
    a hundred parts drawn at random. As with images, the margin is the 1 % quantile of the upper ends of the
    verdict's own interval and at most the mean cost: hardly any such loss then passes as none.
    Raises CallError for fewer than 20 windows.
    """
    return margins_of_damage(damaged_windows(blocks, share, seed=seed), n=n, bytes_per_token=bytes_per_token)


def damaged_windows(blocks: Blocks, share: np.ndarray, *, seed: int = 0) -> dict[str, np.ndarray]:
    """What margins need of the windows: all distributions would not fit into memory.

    log_p: of the real tokens `(n, length)`; share: their frequencies `(n, length)`
    left:  rarefied coverage of each window without each part of the vocabulary `(n, parts)`
    scale: what makes each part one of exactly 5 % `(parts,)`
    """
    parts = vocabularies(share, np.random.default_rng([seed, 0x766F]))
    own, frequent, left = [], [], []
    for tokens, log_p in blocks:
        own.append(_taken(log_p, tokens))
        frequent.append(share[tokens])
        left.append(_left(log_p, tokens, own[-1], parts))
    found = {"log_p": own, "share": frequent, "left": left}
    return {k: np.concatenate(v) for k, v in found.items()} | {"scale": SHARE / (parts @ share)}


def margins_of_damage(
    windows: Mapping[str, np.ndarray], *, n: int, bytes_per_token: float = 1.0
) -> dict[str, Margin]:
    """Both margins, as `text_margins` says, from what `damaged_windows` gives.

    Raises CallError for fewer than 20 windows.
    """
    log_p = windows["log_p"]
    if len(log_p) < FEWEST:
        raise CallError(f"margins for text are measured on at least {FEWEST} windows; give margins instead")
    # Evidence kept by niwaki before 2026-11-30 has the damaged log p instead of what is needed for it.
    cost = cost_of_chance(log_p, windows["share"]) if "share" in windows else windows["mixed"] - log_p
    return {
        "fidelity": _mean(bits(cost, bytes_per_token)),
        "diversity": _quantile(rarefied_coverage_of_text(log_p), windows["left"], windows["scale"], n),
    }


def frequencies(tokens: np.ndarray, levels: int) -> np.ndarray:
    """Share of each token `(levels,)`, one added to every count so that none is 0 (Laplace)."""
    counts = np.bincount(np.asarray(tokens).ravel().astype(np.int64), minlength=levels) + 1.0
    return counts / counts.sum()


def mixed(log_p: np.ndarray, share: np.ndarray, amount: float = SHARE) -> np.ndarray:
    """log((1 − a) p + a u) where the real tokens have log p and share u: said at random now and then."""
    if amount == 0:
        return np.asarray(log_p, dtype=np.float64)
    return np.logaddexp(np.log1p(-amount) + log_p, np.log(amount * share))


def cost_of_chance(log_p: np.ndarray, share: np.ndarray) -> np.ndarray:
    """What saying 5 % of the tokens by frequency alone adds to log p of the real ones, of any shape; it is
    mostly negative.

    log p of a model that is too sure of itself rises by a few such tokens, which would hide what they cost:
    the model that is damaged is the one with as many of them, `b`, as serve it best. Of one that is
    calibrated that is none of them. With every token of the share 1 and log p 0 nothing is added.
    """
    best = _best_amount(log_p, share)
    return mixed(log_p, share, best + SHARE * (1.0 - best)) - mixed(log_p, share, best)


def _best_amount(log_p: np.ndarray, share: np.ndarray) -> float:
    """The a in 0 … ½ at which the mean of log((1 − a) p + a u) is largest; it is concave in a."""
    from scipy.optimize import minimize_scalar

    with np.errstate(over="ignore"):
        slope = np.exp(np.log(share) - log_p).mean() - 1.0  # at a = 0
    if slope <= 0.0:
        return 0.0
    found = minimize_scalar(lambda a: -mixed(log_p, share, a).mean(), bounds=(0.0, 0.5), method="bounded")
    return float(found.x)


def vocabularies(share: np.ndarray, rng: np.random.Generator, sets: int = SETS) -> np.ndarray:
    """Parts of the vocabulary that hold about 5 % of the text: bool (parts, V), drawn; maybe none."""
    parts = []
    for _ in range(sets):
        part, total = np.zeros(len(share), bool), 0.0
        for token in rng.permutation(len(share)):
            if total + share[token] <= 1.1 * SHARE:
                part[token] = True
                total += share[token]
            if total >= 0.9 * SHARE:
                break
        if total >= 0.9 * SHARE and not part.all():
            parts.append(part)
    return np.array(parts, bool).reshape(len(parts), len(share))


def without(log_p: np.ndarray, tokens: np.ndarray, part: np.ndarray) -> np.ndarray:
    """log p of the real tokens `(b, length)` where those of `part`, bool (V,), are never said; −∞ for them.

    log_p: of every token `(b, length, V)`
    """
    inside = np.exp(log_p)[..., part].sum(-1)
    found = _taken(log_p, tokens) - np.log(np.maximum(1.0 - inside, 1e-12))
    return np.where(part[tokens], -np.inf, np.minimum(found, 0.0))


def _left(log_p: np.ndarray, tokens: np.ndarray, own: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Reach of each window without each part `(b, parts)`: `without` of all parts, in one product."""
    inside = np.exp(log_p) @ parts.T.astype(log_p.dtype)  # (b, length, parts)
    kept = np.minimum(own[..., None] - np.log(np.maximum(1.0 - inside, 1e-12)), 0.0)
    kept = np.where(parts.T[tokens], -np.inf, kept)
    return (
        np.stack([rarefied_coverage_of_text(kept[..., i]) for i in range(len(parts))], 1)
        if len(parts)
        else kept[:, 0]
    )


def _taken(log_p: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    return np.take_along_axis(log_p, tokens[..., None].astype(np.int64), -1)[..., 0].astype(np.float64)


def _mean(lost: np.ndarray) -> Margin:
    value = float(lost.mean())
    return Margin(value if value > LEAST else 0.0, float(lost.std(ddof=1)) / len(lost) ** 0.5)


def _quantile(whole: np.ndarray, reached: np.ndarray, scale: np.ndarray, n: int) -> Margin:
    """scale: what makes each part one of exactly 5 %."""
    if not len(scale):
        return Margin(0.0)
    none = np.zeros((1, len(whole)), bool)
    changes = [mean_change(whole, one, none) for one in reached.T]
    cost = scale * [c.delta for c in changes]
    # The verdict will have n windows, not as many as these.
    width = scale * [c.interval()[1] - c.delta for c in changes] * np.sqrt(len(whole) / n)
    by_window = ((whole[:, None] - reached) * scale).mean(1)
    noise = np.hypot(by_window.std(ddof=1) / len(whole) ** 0.5, cost.std() / len(cost) ** 0.5)
    mean = float(cost.mean())
    if mean <= Z95 * noise or mean <= LEAST:
        return Margin(0.0, float(noise))
    value = min(mean, float(np.quantile(cost + width, LEVEL)))
    return Margin(max(0.0, value), float(noise) * max(0.0, value) / mean)

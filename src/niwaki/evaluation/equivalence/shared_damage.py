"""What the most damaged samples have in common: their class, or the region of latent space they come from.

Everything that is looked for is a test, corrected by Holm over all of them: among enough classes one always
looks worst.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import hypergeom, rankdata

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.shares import holm

__all__ = ["ClassShare", "LatentTrend", "SharedDamage", "damage_in_common"]

LEVEL = 0.05
FOLDS = 5


@dataclass(frozen=True)
class ClassShare:
    """How often a class is among the worst.

    worst, overall: its share there and among all samples, 0 … 1
    p_value:        of as many or more among the worst by chance (hypergeometric, exact)
    p_adjusted:     after Holm's correction over all that was looked for
    """

    name: str
    worst: float
    overall: float
    p_value: float
    p_adjusted: float


@dataclass(frozen=True)
class LatentTrend:
    """How damage goes with the place in latent space.

    name:        `direction`: along a line, found on four fifths of the samples and measured on the last, in
                 turns; `radius`: with the distance from the origin
    correlation: of ranks (Spearman), −1 … 1
    p_value:     share of random exchanges of the damage that correlate as much
    direction:   unit vector `(d,)` towards more damage; None for the radius
    """

    name: str
    correlation: float
    p_value: float
    p_adjusted: float
    direction: tuple[float, ...] | None = None


@dataclass(frozen=True)
class SharedDamage:
    """What the worst samples have in common.

    worst:   positions of the most damaged samples
    classes: by p-value, the clearest first; empty without labels
    trends:  in latent space; empty without latents
    found:   names of what is significant at 5 % after the correction
    text:    in a sentence
    """

    worst: tuple[int, ...]
    classes: tuple[ClassShare, ...]
    trends: tuple[LatentTrend, ...]
    found: tuple[str, ...]
    n: int
    seed: int
    text: str

    def to_json(self) -> dict[str, Any]:
        return {
            "worst": list(self.worst),
            "classes": [dict(vars(c)) for c in self.classes],
            "trends": [
                {**vars(t), "direction": None if t.direction is None else list(t.direction)}
                for t in self.trends
            ],
            "found": list(self.found),
            "n": self.n,
            "seed": self.seed,
            "text": self.text,
        }


def damage_in_common(
    damage: Any,
    *,
    labels: Any = None,
    names: Sequence[str] = (),
    latents: Any = None,
    share: float = 0.1,
    permutations: int = 999,
    seed: int = 0,
) -> SharedDamage:
    """Look for what the `share` of the most damaged samples have in common.

    damage:  of each sample `(n,)`, n ≥ 20; more is worse
    labels:  class of each `(n,)`; names: of the classes by number
    latents: noise that each was made from `(n, …)`
    Raises CallError for NaN, other lengths, too few samples.
    """
    values = np.asarray(damage, dtype=np.float64)
    n = len(values)
    if values.ndim != 1 or n < 20:
        raise CallError(f"damage must be one number for each of at least 20 samples, not {values.shape}")
    if not np.isfinite(values).all():
        raise CallError("the damage of some samples is NaN or infinite")
    if not 0 < share < 1:
        raise CallError(f"the share of the worst must lie between 0 and 1, not {share}")
    worst = np.argsort(-values, kind="stable")[: math.ceil(share * n)]
    changed = bool(values.max() > values.min())
    classes = _classes(_of_each(labels, n, "label"), worst, names) if labels is not None and changed else []
    trends: list[LatentTrend] = []
    if latents is not None and changed:
        z = _of_each(latents, n, "latent").reshape(n, -1).astype(np.float64)
        if not np.isfinite(z).all():
            raise CallError("some latents are NaN or infinite")
        trends = _trends(rankdata(values), z, permutations, np.random.default_rng([seed, 0x636F]))
    adjusted = holm([c.p_value for c in classes] + [t.p_value for t in trends])
    classes = [replace(c, p_adjusted=p) for c, p in zip(classes, adjusted, strict=False)]
    trends = [replace(t, p_adjusted=p) for t, p in zip(trends, adjusted[len(classes) :], strict=True)]
    classes.sort(key=lambda c: (c.p_value, -c.worst))
    found = [f"class {c.name}" for c in classes if c.p_adjusted < LEVEL]
    found += [f"latent {t.name}" for t in trends if t.p_adjusted < LEVEL]
    text = _sentence(len(worst), classes, trends, changed)
    return SharedDamage(tuple(worst.tolist()), tuple(classes), tuple(trends), tuple(found), n, seed, text)


def _of_each(x: Any, n: int, what: str) -> np.ndarray:
    array = x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x)
    if array.ndim < 1 or len(array) != n:
        raise CallError(f"there must be one {what} for each of the {n} samples, not {array.shape}")
    return array


def _classes(labels: np.ndarray, worst: np.ndarray, names: Sequence[str]) -> list[ClassShare]:
    """P(X ≥ hits), X hypergeometric: of n samples `of` have the class, `worst` are drawn."""
    n, drawn = len(labels), len(worst)
    out = []
    for c in np.unique(labels):
        of, hits = int((labels == c).sum()), int((labels[worst] == c).sum())
        p = float(hypergeom.sf(hits - 1, n, of, drawn))
        name = names[int(c)] if 0 <= int(c) < len(names) else str(c)
        out.append(ClassShare(name, hits / drawn, of / n, min(1.0, p), 1.0))
    return out


def _trends(
    ranks: np.ndarray, z: np.ndarray, permutations: int, rng: np.random.Generator
) -> list[LatentTrend]:
    n = len(ranks)
    given = np.stack([ranks, *(rng.permutation(ranks) for _ in range(permutations))])
    given = (given - given.mean(1, keepdims=True)) / given.std(1, keepdims=True)
    radius = rankdata(np.linalg.norm(z, axis=1))
    out = []
    if radius.std() > 0:
        along = given @ ((radius - radius.mean()) / radius.std()) / n
        out.append(LatentTrend("radius", float(along[0]), _share_as_large(np.abs(along)), 1.0))
    scale = z.std(0)
    z = (z - z.mean(0)) / np.where(scale > 0, scale, 1.0)
    if (scale > 0).any():
        projected = _cross_fitted(given, z, rng.permutation(n) % FOLDS)
        found = given[0] @ z
        unit = found / max(1e-300, float(np.linalg.norm(found)))
        correlation = np.array(
            [np.corrcoef(rankdata(p), g)[0, 1] for p, g in zip(projected, given, strict=True)]
        )
        trend = LatentTrend(
            "direction", float(correlation[0]), _share_as_large(correlation), 1.0, tuple(unit.tolist())
        )
        out.append(trend)
    return out


def _cross_fitted(given: np.ndarray, z: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Place of every sample along the direction of most covariance with each row of `given`, found on the
    other folds: in many dimensions the direction found on the same samples would fit anything."""
    out = np.empty_like(given)
    for f in range(FOLDS):
        held = fold == f
        direction = given[:, ~held] @ z[~held]
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-300)
        out[:, held] = direction @ z[held].T
    return out


def _share_as_large(values: np.ndarray) -> float:
    """(1 + permuted ≥ observed) / (1 + permuted); the first is the observed one."""
    return float((1 + np.count_nonzero(values[1:] >= values[0] - 1e-12)) / len(values))


def _sentence(worst: int, classes: Sequence[ClassShare], trends: Sequence[LatentTrend], changed: bool) -> str:
    if not changed:
        return "All samples are damaged alike: there is no worst."
    parts = []
    telling = [c for c in classes if c.p_adjusted < LEVEL][:3]
    if telling:
        listed = " and ".join(
            f"{c.worst:.0%} are of the class '{c.name}', which makes up {c.overall:.0%} of all"
            f" (p = {c.p_adjusted:.2g})"
            for c in telling
        )
        parts.append(listed)
    for t in trends:
        if t.p_adjusted >= LEVEL:
            continue
        where = "along one direction of latent space"
        if t.name == "radius":
            where = f"with {'more' if t.correlation > 0 else 'less'} distance from the middle of latent space"
        parts.append(
            f"damage rises {where} (rank correlation {abs(t.correlation):.2f}, p = {t.p_adjusted:.2g})"
        )
    if telling:
        return f"Of the {worst} most damaged samples {'; '.join(parts)}."
    if parts:
        return f"D{'; '.join(parts)[1:]}."
    if not classes and not trends:
        return "Nothing was looked for: neither labels nor latents were given."
    looked = ["no class"] * bool(classes) + ["no region of latent space"] * bool(trends)
    return f"Among the {worst} most damaged samples {' and '.join(looked)} stands out."

"""An extractor must pass before it is trusted: known damage to real samples, rising in strength, must move
the metrics step by step.

Three kinds, after the sanity checks of Räisä et al., "Position: all current generative fidelity and diversity
metrics are flawed", ICML 2025 (https://arxiv.org/abs/2505.22450): *corruption* (blur, noise, lost contrast)
must cost fidelity, *dropped modes* diversity, and *copies of a few training samples* must be called copies
and cost diversity. What an extractor cannot see it cannot judge.

Training samples stand in for generated ones, held-out samples are the real ones: as close as the data come to
a perfect model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from sklearn.cluster import KMeans

from niwaki.core.contract import CallError, DataSpec
from niwaki.data import Dataset
from niwaki.evaluation.equivalence.margins import first_features
from niwaki.evaluation.extractor_checks.fitness import Fitness, Ladder, judge_curve
from niwaki.evaluation.memorization.copies import CLOSE
from niwaki.evaluation.metrics.frechet import frechet_distance
from niwaki.evaluation.metrics.gram import gram_metrics
from niwaki.evaluation.pairwise.neighbourhood import rarefied_coverage
from niwaki.evaluation.pairwise.sweep import Pairs
from niwaki.evaluation.statistics.arrays import pair
from niwaki.evaluation.statistics.result import signature
from niwaki.evaluation.statistics.samples import value_widths
from niwaki.features import Extractor
from niwaki.modalities.drawing import blur

__all__ = ["check_extractor"]

K = 5
MOST = 300
"""Samples on each side."""
POOL = 600
"""Training samples that are corrupted; each repeat draws from them."""
MOST_TRAIN = 4096
REPEATS = 5
MODES = 10
FEW = 10
"""Training samples that all copies are of."""
NEAR = 0.01
"""Noise on a copy, as a share of the value range."""
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8)
STRENGTHS = {
    "blur": ((0.0, 0.05, 0.08, 0.12, 0.2), "σ as a share of the longest side"),
    "noise": ((0.0, 0.05, 0.1, 0.2, 0.4), "standard deviation as a share of the value range"),
    "order": ((0.0, 0.25, 0.5, 0.75, 1.0), "share of the clips whose frames are in another order"),
    "contrast": ((0.0, 0.15, 0.3, 0.5, 0.7), "share of the way to the sample's own mean"),
}


def check_extractor(
    extractor: Extractor, dataset: Dataset, *, split: str = "validation", seed: int = 0
) -> Fitness:
    """Climb the ladders with the training split, against `split`.

    split: real samples, at least 40; not `train`
    Raises CallError for another modality than image, series, vector or video, and for too few samples.
    """
    spec = dataset.spec
    if spec.modality not in ("image", "series", "vector", "video"):
        raise CallError(f"there are no ladders for the modality '{spec.modality}'")
    held = dataset.split(split)
    if split == "train":
        raise CallError("training samples stand for the generated ones; name another split")
    n_real, n = min(MOST, int(0.8 * len(held))), min(MOST, len(dataset.train) // 4)
    if n_real < 4 * K + 10 or n < 4 * K + 10:
        raise CallError(
            f"{len(held)} samples of '{split}' and {len(dataset.train)} training samples are too few for "
            f"ladders; at least {-(-(4 * K + 10) * 5 // 4)} and {4 * (4 * K + 10)}"
        )
    known: dict[str, Any] = {
        "fingerprint": extractor.fingerprint,
        "split": split,
        "n": (n_real, n),
        "repeats": REPEATS,
        "seed": seed,
        "signature": signature(
            "ladders", k=K, split=split, real=n_real, judged=n, repeats=REPEATS, seed=seed,
            features=f"{extractor.name}@{extractor.fingerprint[:8]}", data=dataset.fingerprint[:12],
        ),
    }  # fmt: skip
    real = first_features(extractor, dataset, split, MOST_TRAIN)
    if not np.isfinite(real).all() or float(np.ptp(real, axis=0).max()) == 0:
        return Fitness.of(extractor.name, (), "its features are the same for all samples", **known)
    climb = partial(_climb, real=real, n_real=n_real, seed=seed)
    ladders = []
    try:
        for name in _corruptions(spec):
            strengths, unit = STRENGTHS[name]
            ladders.append(
                climb(name, "corruption", unit, strengths, _corrupted(extractor, dataset, name, n))
            )
        train = first_features(extractor, dataset, "train", MOST_TRAIN)
        modes = _modes(dataset, seed)
        ladders.append(
            climb("modes", "modes", "share of the modes dropped", SHARES, _dropped(train, modes, n))
        )
        rungs = _copied(extractor, dataset, train, n)
        ladders.append(climb("copies", "copying", f"share that copies {FEW} training samples", SHARES, rungs))
    except CallError as error:  # features that the metrics refuse
        return Fitness.of(extractor.name, ladders, str(error), **known)
    return Fitness.of(extractor.name, ladders, **known)


def _corruptions(spec: DataSpec) -> tuple[str, ...]:
    """Those that mean something for such samples: vectors have no neighbours, only clips have an order."""
    blurred = ("blur",) if len(spec.shape) > 1 else ()
    return (*blurred, "noise", *(("order",) if spec.axes == "TCHW" else ()), "contrast")


Rungs = Callable[[np.random.Generator], Iterable[tuple[np.ndarray, np.ndarray]]]
"""Of one repeat: by step the features judged, and those of the training samples that could be copied."""


def _climb(
    name: str,
    kind: str,
    unit: str,
    strengths: tuple[float, ...],
    rungs: Rungs,
    *,
    real: np.ndarray,
    n_real: int,
    seed: int,
) -> Ladder:
    found: list[list[dict[str, float]]] = []
    for repeat in range(REPEATS):
        rng = np.random.default_rng([seed, repeat, 0x6C61])
        some = real[rng.permutation(len(real))[:n_real]]
        found.append([_measure(some, judged, train, kind) for judged, train in rungs(rng)])
    curves = {
        metric: judge_curve([[step[metric] for step in repeat] for repeat in found], metric, kind)
        for metric in found[0][0]
    }
    return Ladder(name, kind, unit, strengths, curves)


def _measure(real: np.ndarray, judged: np.ndarray, train: np.ndarray, kind: str) -> dict[str, float]:
    swept = gram_metrics(real, judged, k=K, claims=True)
    place, n = swept.neighbourhood, len(judged)
    assert place is not None
    around = swept.manifold.results()
    found = {
        "log_realism": float(place.log_realism.mean()),
        "rarefied_coverage": float(rarefied_coverage(place.counts(), n, min(len(real), n // 2)).mean()),
        "frechet": frechet_distance(real, judged).value,
        "kernel": swept.kernel.value,
        **{m: r.value for m, r in around.items() if m not in ("realism", "rarity")},
    }
    if kind == "copying":
        limit = np.quantile(_nearest(real, train), CLOSE)
        found["close"] = float((_nearest(judged, train) < limit).mean())
    return found


def _corrupted(extractor: Extractor, dataset: Dataset, name: str, n: int) -> Rungs:
    x = dataset.train.values()[:POOL].cpu().numpy().astype(np.float32)
    rng = np.random.default_rng(0x636F)
    steps = [extractor(corrupt(x, name, s, dataset.spec, rng)) for s in STRENGTHS[name][0]]

    def rungs(rng: np.random.Generator) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        some = rng.permutation(len(x))[:n]
        return ((step[some], step[:0]) for step in steps)

    return rungs


def corrupt(
    x: np.ndarray, name: str, strength: float, spec: DataSpec, rng: np.random.Generator
) -> np.ndarray:
    """Samples `(n, *shape)` blurred, with noise, with frames in another order, or with less contrast; the
    strengths are those of STRENGTHS.

    Vectors have no range that means anything and no mean of their own: their noise is a share of each
    coordinate's deviation, their contrast is lost towards the mean of all.
    """
    if strength == 0:
        return x
    vectors = x.ndim == 2
    if name == "blur":
        sides = [at for at, axis in enumerate(spec.axes, 1) if axis in "HW"] or list(range(2, x.ndim))
        return blur(x, strength * max(x.shape[at] for at in sides), sides)
    if name == "order":
        some = rng.permutation(len(x))[: round(strength * len(x))]
        order = rng.permuted(np.broadcast_to(np.arange(x.shape[1]), (len(some), x.shape[1])), axis=1)
        out = x.copy()
        out[some] = np.take_along_axis(x[some], order.reshape(*order.shape, *(1,) * (x.ndim - 2)), axis=1)
        return out
    if name == "noise":
        # four deviations are about what the range is to a picture
        width = 4 * x.std(0, keepdims=True) if vectors else value_widths(spec, x)
        return (x + strength * width * rng.normal(size=x.shape)).astype(np.float32)
    middle = x.mean(0, keepdims=True) if vectors else x.mean(tuple(range(1, x.ndim)), keepdims=True)
    return ((1 - strength) * x + strength * middle).astype(np.float32)


def _modes(dataset: Dataset, seed: int) -> np.ndarray:
    """Of the first training samples: their class, or their k-means cell in plain values `(n,)`: the same for
    every extractor."""
    split = dataset.train
    if split.y is not None and dataset.spec.classes >= 5:
        return split.y[:MOST_TRAIN].cpu().numpy()
    x = split.values()[:MOST_TRAIN].cpu().numpy().reshape(min(MOST_TRAIN, len(split)), -1)
    return KMeans(MODES, n_init=1, random_state=seed % 2**31).fit_predict(x.astype(np.float32))


def _dropped(train: np.ndarray, modes: np.ndarray, n: int) -> Rungs:
    """As many samples at every step, from fewer and fewer modes."""

    def rungs(rng: np.random.Generator) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        names = rng.permutation(np.unique(modes))
        order = rng.permutation(len(train))
        kept = [order[np.isin(modes[order], names[round(s * len(names)) :])] for s in SHARES]
        size = min(n, *(len(k) for k in kept))
        return ((train[k[:size]], train[:0]) for k in kept)

    return rungs


def _copied(extractor: Extractor, dataset: Dataset, train: np.ndarray, n: int) -> Rungs:
    """A share of the samples are near-duplicates of a few training samples. Half of the training split is
    what can be copied, the other half gives the samples that are no copies."""

    def rungs(rng: np.random.Generator) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        order = rng.permutation(len(train))
        known, fresh = order[: len(order) // 2], order[len(order) // 2 :][:n]
        few = rng.choice(known[:FEW], n)
        x = dataset.train.values()[: len(train)].cpu().numpy()[few]
        copies = extractor(corrupt(x, "noise", NEAR, dataset.spec, rng))
        at = [round(s * len(fresh)) for s in SHARES]
        return ((np.concatenate([copies[:k], train[fresh[k:]]]), train[known]) for k in at)

    return rungs


def _nearest(of: np.ndarray, among: np.ndarray) -> np.ndarray:
    return Pairs(*pair(of, among)).nearest(1).d2[:, 0].sqrt().cpu().numpy()

"""Train on synthetic, test on real: what generated data are worth to someone who learns from them.

Esteban, Hyland & Rätsch, "Real-valued (medical) time series generation with recurrent conditional GANs", 2017
(https://arxiv.org/abs/1706.02633); Ravuri & Vinyals, "Classification accuracy score for conditional
generative models", NeurIPS 2019 (https://arxiv.org/abs/1905.10887).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.statistics.arrays import features
from niwaki.evaluation.statistics.result import Result, signature, wilson
from niwaki.evaluation.statistics.shares import integers, paired_difference

__all__ = ["SyntheticTraining", "train_on_synthetic_test_on_real"]

_Estimate = tuple[float, tuple[float, float]]

_CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "logistic": lambda seed: LogisticRegression(max_iter=1000),
    "nearest": lambda seed: KNeighborsClassifier(1, algorithm="brute"),
    "mlp": lambda seed: MLPClassifier((64,), max_iter=200, random_state=seed),
}


@dataclass(frozen=True)
class SyntheticTraining:
    """Accuracies on the real test samples, and their differences sample by sample.

    synthetic:  of a classifier that saw generated samples alone; its floor is `real`'s value
    real, both: of one that saw the real training samples, and of one that saw both; None without these
    gain:       both − real: above 0 where the generated samples add something
    gap:        real − synthetic: what learning from generated samples costs
    gain_p, gap_p: exact two-sided p-values of McNemar's test, that as many test samples turn right as wrong
    """

    synthetic: Result
    real: Result | None = None
    both: Result | None = None
    gain: Result | None = None
    gap: Result | None = None
    gain_p: float | None = None
    gap_p: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {k: v.to_json() if isinstance(v, Result) else v for k, v in vars(self).items()}


def train_on_synthetic_test_on_real(
    generated: Any,
    generated_labels: Any,
    test: Any,
    test_labels: Any,
    *,
    train: Any = None,
    train_labels: Any = None,
    classifier: str = "logistic",
    balanced: bool = False,
    seed: int = 0,
) -> SyntheticTraining:
    """Accuracy on real test samples, 0 … 1, of a classifier trained on generated ones, alone and added to
    real.

    generated, test, train: features or samples (n, …), flattened; labels (n,) integers of one numbering
    classifier: of scikit-learn, on columns standardised by its own training samples: "logistic" (L2, C = 1,
                at most 1000 steps), "nearest" (one neighbour), "mlp" (64 hidden units, at most 200 epochs,
                `seed`)
    balanced:   mean of the classes' accuracies instead of the share of all test samples

    Intervals are over the test samples, the trained classifiers held fixed: Wilson's, for differences
    Newcombe's for paired shares (McNemar's table); with `balanced` those of the classes, combined by the
    squares of their half-widths (Zou & Donner 2008). per_sample belongs to the test samples: 1 or 0 for right
    or wrong, their difference for `gain` and `gap`. "both" counts every sample once: ten times as many
    generated as real ones outweigh them.
    A training set of one class gives the classifier that answers that class.
    Raises CallError for `train` without `train_labels`, other lengths or widths, NaN, an unknown classifier.
    """
    if classifier not in _CLASSIFIERS:
        raise CallError(f"classifier '{classifier}' is not known; {nearest(classifier, list(_CLASSIFIERS))}")
    if (train is None) != (train_labels is None):
        raise CallError("train and train_labels go together")
    x, y = _labelled(generated, generated_labels, "generated")
    to, truth = _labelled(test, test_labels, "test", x.shape[1])
    strata = [truth == c for c in np.unique(truth)] if balanced else [np.ones(len(truth), dtype=bool)]

    def answers_right(inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return _answers(classifier, inputs, labels, to, seed) == truth

    def result(
        name: str, estimate: _Estimate, scores: np.ndarray, trained: int, floor: float | None
    ) -> Result:
        text = signature(
            name,
            classifier=classifier,
            balanced=balanced or None,
            train=trained,
            test=len(to),
            d=x.shape[1],
        )
        sizes, used = (len(to), len(x)), seed if classifier == "mlp" else None
        return Result(*estimate, floor, scores.astype(np.float64), sizes, used, text)

    alone = answers_right(x, y)
    synthetic = result("tstr", _accuracy(alone, strata), alone, len(x), None)
    if train is None:
        return SyntheticTraining(synthetic)
    x_real, y_real = _labelled(train, train_labels, "train", x.shape[1])
    ours = answers_right(x_real, y_real)
    joint = answers_right(np.concatenate([x_real, x]), np.concatenate([y_real, y]))
    n, total = len(x_real), len(x_real) + len(x)
    real = result("trtr", _accuracy(ours, strata), ours, n, None)
    return SyntheticTraining(
        synthetic=synthetic.with_floor(real.value),
        real=real,
        both=result("tbtr", _accuracy(joint, strata), joint, total, None),
        gain=result("tbtr-trtr", _difference(joint, ours, strata), joint * 1.0 - ours, total, 0.0),
        gap=result("trtr-tstr", _difference(ours, alone, strata), ours * 1.0 - alone, total, 0.0),
        gain_p=_mcnemar(joint, ours),
        gap_p=_mcnemar(ours, alone),
    )


def _labelled(x: Any, labels: Any, role: str, width: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    array = features(x, role).cpu().numpy()
    if width is not None and array.shape[1] != width:
        raise CallError(
            f"{role} has {array.shape[1]} features and generated {width}; take both from one source"
        )
    return array, integers(labels, f"{role} labels", len(array))


def _answers(name: str, x: np.ndarray, y: np.ndarray, to: np.ndarray, seed: int) -> np.ndarray:
    """Classes that a classifier trained on (x, y) gives to `to`."""
    if (y == y[0]).all():
        return np.full(len(to), y[0])
    model = make_pipeline(StandardScaler(), _CLASSIFIERS[name](seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is part of its definition
        return model.fit(x, y).predict(to)


def _accuracy(right: np.ndarray, strata: list[np.ndarray]) -> _Estimate:
    parts = [right[s] for s in strata]
    return _combine([(float(p.mean()), wilson(int(p.sum()), len(p))) for p in parts])


def _difference(first: np.ndarray, second: np.ndarray, strata: list[np.ndarray]) -> _Estimate:
    found = []
    for s in strata:
        a, b = first[s], second[s]
        table = [int(np.count_nonzero(v)) for v in (a & b, a & ~b, ~a & b, ~a & ~b)]
        found.append((float(a.mean()) - float(b.mean()), paired_difference(*table)))
    return _combine(found)


def _combine(parts: list[_Estimate]) -> _Estimate:
    """Mean of independent estimates; half-widths add as squares."""
    n = len(parts)
    value = sum(v for v, _ in parts) / n
    below = math.sqrt(sum((v - low) ** 2 for v, (low, _) in parts)) / n
    above = math.sqrt(sum((high - v) ** 2 for v, (_, high) in parts)) / n
    return value, (value - below, value + above)


def _mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """McNemar, "Note on the sampling error of the difference between correlated proportions", 1947, exact."""
    gained = int(np.count_nonzero(first & ~second))
    lost = int(np.count_nonzero(second & ~first))
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0

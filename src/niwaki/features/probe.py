"""How much of the classes lies in features that never saw one: a linear probe and nearest neighbours."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from niwaki.core.contract import CallError

__all__ = ["knn_accuracy", "linear_accuracy"]


def knn_accuracy(
    train: np.ndarray,
    labels: np.ndarray,
    test: np.ndarray,
    answers: np.ndarray,
    *,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Share of test samples whose class wins the vote of the k training samples of the highest cosine
    similarity s, each of weight exp(s/τ) (Wu et al., "Unsupervised feature learning via non-parametric
    instance discrimination", CVPR 2018, section 3.4).

    train, test: features (n, d), (m, d); labels, answers: their classes (n,), (m,)
    Returns 0 … 1. Raises CallError where there are fewer than k training samples.
    """
    if len(train) < k:
        raise CallError(f"{len(train)} training samples are too few for {k} neighbours")
    x, y = _unit(train), torch.from_numpy(np.asarray(labels, np.int64))
    classes = int(max(np.max(labels), np.max(answers))) + 1
    right = 0
    for at in range(0, len(test), 1024):
        s, near = (_unit(test[at : at + 1024]) @ x.T).topk(k, dim=1)
        votes = torch.zeros(len(s), classes, dtype=s.dtype)
        votes.scatter_add_(1, y[near], ((s - s[:, :1]) / temperature).exp())  # the nearest weighs 1
        right += int((votes.argmax(1).numpy() == answers[at : at + 1024]).sum())
    return right / len(test)


def linear_accuracy(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, answers: np.ndarray, *, most: int = 5000
) -> float:
    """Accuracy of multinomial logistic regression (L2, C = 1) on the frozen features, standardised by the
    training samples' mean and deviation.

    train, test: features (n, d), (m, d); labels, answers: their classes (n,), (m,)
    most: training samples that are used, evenly spread over those there are
    Returns 0 … 1. Raises CallError where the training samples are all of one class.
    """
    if len(np.unique(labels)) < 2:
        raise CallError("a linear probe needs training samples of at least two classes")
    index = np.linspace(0, len(train) - 1, min(most, len(train))).astype(np.int64)
    x = np.asarray(train, np.float64)[index]
    mean, deviation = x.mean(0), x.std(0)
    scale = 1.0 / np.maximum(deviation, 1e-6 * max(float(deviation.max()), 1e-12))
    model = LogisticRegression(C=1.0, max_iter=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 500 steps are a defined answer too
        model.fit((x - mean) * scale, np.asarray(labels)[index])
    return float(model.score((np.asarray(test, np.float64) - mean) * scale, answers))


def _unit(x: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(np.array(x, np.float64)), dim=1)

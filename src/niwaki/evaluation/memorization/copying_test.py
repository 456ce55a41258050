"""The test for data copying: are generated samples nearer to the training set than held-out real ones are?

Meehan, Chaudhuri & Dasgupta, "A non-parametric test to detect data-copying in generative models", AISTATS
2020 (https://arxiv.org/abs/2004.05675).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr
from sklearn.cluster import KMeans
from torch import Tensor

from niwaki.core.contract import CallError, nearest
from niwaki.evaluation.pairwise.sweep import Pairs
from niwaki.evaluation.statistics.arrays import beside, features
from niwaki.evaluation.statistics.ranks import mid_ranks
from niwaki.evaluation.statistics.result import Result, normal_interval, signature

__all__ = ["Cell", "CopyingTest", "copying_test"]

_ENOUGH = 20
"""Generated samples that a cell must exceed to be counted: the paper's τ = 20/m."""
_CONVENTIONS = (None, "meehan")


@dataclass(frozen=True)
class Cell:
    """One cell of the partition.

    z:               of its Mann–Whitney test; below 0 the generated samples are nearer to the training set
    p_value:         of so small a z or a smaller one, if nothing is copied (normal)
    weight:          share of the test samples that lie in it
    test, generated: how many samples lie in it
    counted:         whether it holds enough generated samples to be part of C_T
    """

    z: float
    p_value: float
    weight: float
    test: int
    generated: int
    counted: bool


@dataclass(frozen=True)
class CopyingTest:
    """C_T with its parts.

    score:    C_T; `per_sample` is the share of the cell's test samples that are nearer to the training set
              than the generated one: 0 is suspicious, a model that copies nothing has them uniform
    p_value:  of so small a C_T or a smaller one, if nothing is copied
    cells:    by label of the k-means
    cell:     label of each generated sample `(m,)`
    index:    of the training sample nearest to each generated one `(m,)`
    distance: to it `(m,)`
    """

    score: Result
    p_value: float
    cells: tuple[Cell, ...]
    cell: np.ndarray
    index: np.ndarray
    distance: np.ndarray


def copying_test(
    train: Any,
    test: Any,
    generated: Any,
    *,
    cells: int = 3,
    tau: float | None = None,
    seed: int = 0,
    compat: str | None = None,
    block: int = 2048,
) -> CopyingTest:
    """C_T = Σ P(π) z(π) / Σ P(π) over the cells π that count, P(π) the share of test samples in π; −∞ … ∞.

    train, test, generated: features (n, d)
    cells:  of a k-means on the training set, ten starts
    tau:    a cell counts if it holds more than this share of the generated samples; None for 20/m
    seed:   of the k-means
    compat: "meehan" is the authors' code: distances to the training samples of the own cell alone, a
            continuity correction of +0.5 (also below the mean, where it should be −0.5), ties not corrected
    block:  side of a block of pairs
    C_T ≪ 0 means copying (or samples drawn to the middle of the data), C_T ≫ 0 that generated samples keep
    away from the training set. z grows with the root of the sample sizes: compare at equal n only. Where
    nothing is copied (floor 0) every z has mean 0 and deviation 1, and C_T the deviation √(Σ P²)/Σ P. The
    interval is over the test and generated samples, never narrower than under that hypothesis. Ties count
    one half, with the variance corrected for them; where all distances are equal z = 0.
    Raises CallError where no cell counts, for fewer different training samples than cells, differing widths,
    NaN, an unknown `compat`.
    """
    if compat not in _CONVENTIONS:
        names = [c for c in _CONVENTIONS if c]
        raise CallError(f"compat '{compat}' is not known; {nearest(str(compat), names)}")
    x = features(train, "train", least=2)
    t, y = beside(x, test, "test"), beside(x, generated, "generated")
    share = _ENOUGH / len(y) if tau is None else float(tau)
    label_x, label_t, label_y = _partition(x, t, y, cells, seed)
    own = compat == "meehan"
    far_t, _ = _to_train(x, t, label_x, label_t, own, block)
    far_y, index = _to_train(x, y, label_x, label_y, own, block)

    rank = np.empty(len(y))
    parts, errors = [], []
    for cell in range(cells):
        a, b = far_t[label_t == cell], far_y[label_y == cell]
        nearer = mid_ranks(b, a if len(a) else far_t)
        rank[label_y == cell] = nearer
        z, error = _z(a, b, nearer, own) if len(a) and len(b) else (0.0, 1.0)
        counted = len(b) / len(y) > share and len(a) > 0
        parts.append(Cell(z, float(ndtr(z)), len(a) / len(t), len(a), len(b), counted))
        errors.append(error)
    kept = np.array([c.counted for c in parts])
    if not kept.any():
        raise CallError(
            f"none of the {cells} cells holds a test sample and more than {share:.2%} of the {len(y)}"
            " generated ones: take fewer cells or more samples"
        )
    weight = np.array([c.weight for c in parts])[kept]
    weight /= weight.sum()
    value = float(weight @ np.array([c.z for c in parts])[kept])
    under_null = float(np.linalg.norm(weight))
    error = float(np.linalg.norm(weight * np.array(errors)[kept]))
    text = signature(
        "copying_test",
        cells=cells,
        tau=f"{share:.6g}",
        compat=compat,
        d=x.shape[1],
        train=len(x),
        test=len(t),
        generated=len(y),
        seed=seed,
    )
    score = Result(value, normal_interval(value, error), 0.0, rank, (len(t), len(y)), seed, text)
    return CopyingTest(score, float(ndtr(value / under_null)), tuple(parts), label_y, index, np.sqrt(far_y))


def _partition(
    x: Tensor, t: Tensor, y: Tensor, cells: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cell of each training, test and generated sample: the nearest centre of a k-means on the first."""
    if cells < 1:
        raise CallError(f"cells must be at least 1, not {cells}")
    array = x.cpu().numpy()
    different = len(np.unique(array, axis=0))
    if different < cells:
        raise CallError(f"{different} different training samples make no {cells} cells")
    model = KMeans(cells, n_init=10, random_state=seed % 2**32).fit(array)
    return model.labels_, model.predict(t.cpu().numpy()), model.predict(y.cpu().numpy())


def _to_train(
    x: Tensor, y: Tensor, label_x: np.ndarray, label_y: np.ndarray, own: bool, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance to the nearest training sample (with `own` of the same cell) and its index."""
    if not own:
        near = Pairs(y, x, block=block).nearest(1)
        return near.d2[:, 0].cpu().numpy(), near.index[:, 0].cpu().numpy()
    d2, index = np.zeros(len(y)), np.zeros(len(y), dtype=np.int64)
    for cell in np.unique(label_y):
        rows, columns = np.flatnonzero(label_y == cell), np.flatnonzero(label_x == cell)
        near = Pairs(y[rows], x[columns], block=block).nearest(1)
        d2[rows], index[rows] = near.d2[:, 0].cpu().numpy(), columns[near.index[:, 0].cpu().numpy()]
    return d2, index


def _z(a: np.ndarray, b: np.ndarray, nearer: np.ndarray, theirs: bool) -> tuple[float, float]:
    """z = (U − nm/2)/σ with U the number of pairs a < b (equal ones by half), and its standard error."""
    n, m = len(a), len(b)
    both = n + m
    excess = float(nearer.sum()) * n - n * m / 2.0
    if theirs:
        return (excess + 0.5) / math.sqrt(n * m * (both + 1) / 12.0), 1.0
    # σ² = nm/12 · (N + 1 − Σ (s³ − s)/(N(N − 1))), s the sizes of groups of equal distances.
    _, sizes = np.unique(np.concatenate([a, b]), return_counts=True)
    ties = float((sizes.astype(np.float64) ** 3 - sizes).sum()) / (both * (both - 1))
    variance = n * m / 12.0 * (both + 1 - ties)
    if variance <= 0:
        return 0.0, 1.0
    # Var(U/nm) from the placements of each sample among the others (DeLong et al., Biometrics 1988); at
    # complete separation it is 0, hence the lower bound of 1 on the error of z.
    spread = sum(float(p.var(ddof=1)) / len(p) for p in (nearer, mid_ranks(a, b)) if len(p) > 1)
    return excess / math.sqrt(variance), max(1.0, math.sqrt(spread / variance) * n * m)

"""Samples and labels as the judgement takes them, checked once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import CallError, DataSpec, ValueSpec
from niwaki.data import Dataset
from niwaki.features import Extractor

__all__ = ["check_labels", "check_samples", "drawn_alike", "split_features", "value_span", "value_widths"]


def check_samples(x: Any, spec: DataSpec, role: str, least: int = 50) -> np.ndarray:
    """float32 `(n, *shape)`. Raises CallError for another shape, too few samples, NaN or infinity."""
    array = x.detach().cpu().float().numpy() if isinstance(x, Tensor) else np.asarray(x)
    if array.dtype.kind not in "biuf":
        raise CallError(f"the {role} samples must be real numbers, not {array.dtype}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is found below
        array = array.astype(np.float32, copy=False)
    if array.shape[1:] != tuple(spec.shape):
        raise CallError(f"the {role} samples have the shape {array.shape[1:]}, the data {tuple(spec.shape)}")
    if len(array) < least:
        raise CallError(f"at least {least} {role} samples are needed for a judgement, not {len(array)}")
    bad = ~np.isfinite(array).reshape(len(array), -1).all(1)
    if bad.any():
        first = int(bad.argmax())
        raise CallError(f"{int(bad.sum())} {role} samples hold NaN or infinity, the first is sample {first}")
    return array


def check_labels(labels: Any, n: int, spec: DataSpec) -> np.ndarray | None:
    """int64 `(n,)`, or None. Raises CallError for another length or a class that the data do not have."""
    if labels is None:
        return None
    array = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.shape != (n,):
        raise CallError(f"there must be one label for each of the {n} samples, not {array.shape}")
    whole = array.dtype.kind in "iub" or (
        array.dtype.kind == "f" and bool(np.isfinite(array).all()) and bool((array % 1 == 0).all())
    )
    if not whole:
        raise CallError(f"the labels must be whole numbers, not {array.dtype}")
    array = array.astype(np.int64)
    if spec.classes and (array.min() < 0 or array.max() >= spec.classes):
        raise CallError(f"the labels must be 0 … {spec.classes - 1}, not {array.min()} … {array.max()}")
    return array


def value_span(spec: DataSpec | ValueSpec, samples: np.ndarray) -> float:
    """Width of the value range; where that has no bounds, of the samples that are there."""
    span = spec.high - spec.low
    return span if math.isfinite(span) else max(float(np.ptp(samples)), 1e-12)


def value_widths(spec: DataSpec | ValueSpec, samples: np.ndarray) -> np.ndarray:
    """How wide each value of a sample ranges `(*shape)`: the range of the data, or, where that has no bounds,
    what the samples of its column or channel reach: columns may be of different units."""
    shape = samples.shape[1:]
    span = spec.high - spec.low
    if math.isfinite(span):
        return np.full(shape, span)
    axes = spec.axes or ""
    along = (0, *(i + 1 for i, axis in enumerate(axes) if axis != "C")) if "C" in axes else None
    width = np.ptp(samples.astype(np.float64), axis=along, keepdims=True)
    return np.broadcast_to(np.maximum(width, 1e-12), (1, *shape))[0]


def split_features(
    extractor: Extractor, dataset: Dataset, split: str, index: np.ndarray | None = None
) -> np.ndarray:
    """Features of a split, or of its samples at `index`, from the extractor's cache where it keeps one."""
    kept = getattr(extractor, "of_split", None)
    if kept is not None:
        return np.asarray(kept(dataset, split, index))
    return extractor(dataset.split(split).values(None if index is None else torch.from_numpy(index)))


def drawn_evenly(labels: np.ndarray | None, given: int, n: int, seed: int) -> np.ndarray:
    """Positions of n of the given samples, rising, drawn without repetition; with labels, of every class its
    share, rounded so that the counts add up to n. All of them where n is no less.

    The first n are no sample: files lie in the order of their names, and so, often, of their classes.
    """
    if n >= given:
        return np.arange(given)
    order = np.random.default_rng([seed, 0x6576]).permutation(given)
    if labels is None:
        return np.sort(order[:n])
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * n / given
    share = np.floor(exact).astype(np.int64)
    share[np.argsort(share - exact, kind="stable")[: n - int(share.sum())]] += 1  # largest remainders first
    parts = [order[labels[order] == c][:k] for c, k in zip(classes, share, strict=True)]
    return np.sort(np.concatenate(parts))


def drawn_alike(dataset: Dataset, labels: np.ndarray | None, n: int, seed: int) -> np.ndarray:
    """Positions of n training samples, without repetition, in random order; of the same classes as `labels`
    where there are any.

    How often each class occurs moves the distance of two sets of many classes more than anything else, and a
    reference drawn at random would be worse for that alone. Where a class runs out, others fill up.
    """
    rng = np.random.default_rng([seed, 0x7265])
    order = rng.permutation(len(dataset.train))
    if labels is None or dataset.train.y is None:
        return order[:n]
    y = dataset.train.y.cpu().numpy()[order]
    taken = np.zeros(len(order), bool)
    for c, count in zip(*np.unique(labels[:n], return_counts=True), strict=True):
        taken[np.flatnonzero(y == c)[:count]] = True
    rest = np.flatnonzero(~taken)[: n - int(taken.sum())]
    taken[rest] = True
    return order[taken]

"""Precision and recall by locality-sensitive hashing: samples meet in buckets of fixed size, not in the balls
that an outlier blows up.

Mordido, Yang & Meinel, "Evaluating post-training compression in GANs using locality-sensitive hashing", 2021
(https://arxiv.org/abs/2103.11912); the hashes are those of Datar, Immorlica, Indyk & Mirrokni,
"Locality-sensitive hashing scheme based on p-stable distributions", SoCG 2004.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.core.contract import CallError
from niwaki.evaluation.statistics.arrays import pair
from niwaki.evaluation.statistics.result import Result, signature, wilson

__all__ = ["HashedPrecisionRecall", "lsh_precision_recall"]

_ROWS = 4096
"""Samples hashed at once."""
_HALVINGS = 14
"""Of the search for the width, from 2⁻²⁰ of the widest on: to a tenth of a percent."""


@dataclass(frozen=True)
class HashedPrecisionRecall:
    """Fidelity and diversity by buckets; `per_sample` is 1 where a bucket is shared, else 0.

    precision: share of generated samples that share a bucket with a real one
    recall:    share of real samples that share a bucket with a generated one
    width:     of a bucket along one random direction, in units of the features
    """

    precision: Result
    recall: Result
    width: float

    def results(self) -> dict[str, Result]:
        """The two numbers by name."""
        return {"lsh_precision": self.precision, "lsh_recall": self.recall}


def lsh_precision_recall(
    real: Any,
    generated: Any,
    *,
    tables: int = 32,
    hashes: int = 16,
    share: float = 0.9,
    width: float | None = None,
    seed: int = 0,
) -> HashedPrecisionRecall:
    """Two samples meet if they fall into one bucket of at least one of the tables.

    real, generated: features (n, d), at least 2 real samples
    tables, hashes:  tables, and random directions that make up the key of each; more hashes cut sharper, more
                     tables miss fewer
    share:           the width is chosen so that this share of the real samples meets another real one, which
                     is what a perfect generator scores (0.9: the width is that of the bulk, and a tenth of
                     the real samples, outliers first, decide nothing)
    width:           sets it by hand, in units of the features
    seed:            of the directions and offsets
    One look-up in each sorted table: O(log n) for a sample, against O(n) for nearest neighbours. Memory:
    4·tables·hashes bytes for each real sample. Of the paper we take the buckets in place of balls; the hashes
    are the p-stable ones and the width follows from the real set, so that values do not compare with theirs.
    Floors: the share of real samples that meet another real one; for recall, one of as many as there are
    generated ones (of all, where there are more). Intervals are Wilson's, over the samples, the other set and
    the hashes held fixed.
    Raises CallError for too few samples, real sets that are mostly copies, differing widths, NaN.
    """
    if tables < 1 or hashes < 1:
        raise CallError(f"tables and hashes must be at least 1, not {tables} and {hashes}")
    if not 0 < share < 1:
        raise CallError(f"share must lie between 0 and 1, not {share}")
    if width is not None and not 0 < width < np.inf:
        raise CallError(f"the width of a bucket must be above 0 and finite, not {width}")
    x, y = pair(real, generated)
    if len(x) < 2:
        raise CallError("this metric needs at least 2 real samples, not 1")
    rng = np.random.default_rng([seed, 0x6C7368])
    hasher = _Hasher.draw(x.shape[1], tables, hashes, rng, x)
    projected = torch.cat(list(hasher.project(x)))
    width = _width(hasher, projected, share) if width is None else float(width)

    keys = hasher.keys(projected, width)
    del projected
    of_generated = torch.cat([hasher.keys(part, width) for part in hasher.project(y)])
    n, m = len(x), len(y)
    text = {"tables": tables, "hashes": hashes, "width": f"{width:.6g}", "d": x.shape[1], "real": n}

    def result(name: str, hits: Tensor, floor: float) -> Result:
        found = hits.cpu().numpy().astype(np.float64)
        line = signature(name, **text, generated=m, seed=seed)
        return Result(float(found.mean()), wilson(found.sum(), len(found)), floor, found, (n, m), seed, line)

    other = float(_another(keys).double().mean())
    order = torch.from_numpy(rng.permutation(n)).to(x.device)
    some, rest = keys[order[:m]], keys[order[m:]]
    alike = int(_another(some).sum()) + int(_member(rest, some).sum())
    return HashedPrecisionRecall(
        result("lsh_precision", _member(of_generated, keys), other),
        result("lsh_recall", _member(keys, of_generated), alike / n),
        width,
    )


@dataclass(frozen=True)
class _Hasher:
    """h(x) = ⌊a·x/w + b⌋ with a normal and b uniform in 0 … 1; a key is made of `hashes` of them.

    centre: (d,), directions: (d, tables·hashes), offsets: (tables·hashes,)
    mix:    odd 64-bit multipliers (tables, hashes); keys are sums of products modulo 2⁶⁴
    """

    centre: Tensor
    directions: Tensor
    offsets: Tensor
    mix: Tensor

    @classmethod
    def draw(cls, d: int, tables: int, hashes: int, rng: np.random.Generator, like: Tensor) -> _Hasher:
        directions = rng.normal(size=(d, tables * hashes))
        offsets = rng.random(tables * hashes).astype(np.float32)
        mix = rng.integers(-(2**63), 2**63 - 1, size=(tables, hashes), dtype=np.int64) | 1
        parts = (torch.from_numpy(a).to(like.device) for a in (directions, offsets, mix))
        return cls(like.mean(0), *parts)

    def project(self, x: Tensor) -> Iterator[Tensor]:
        """a·(x − centre) in float32, some rows at a time (rows, tables·hashes); the product is in float64."""
        for part in x.split(_ROWS):
            yield ((part - self.centre) @ self.directions).float()

    def keys(self, projected: Tensor, width: float) -> Tensor:
        """Int64 bucket of every sample in every table (n, tables)."""
        out = []
        for part in projected.split(_ROWS):
            cell = torch.floor(part / width + self.offsets).long().view(len(part), *self.mix.shape)
            out.append((cell * self.mix).sum(2))
        return torch.cat(out)


def _width(hasher: _Hasher, projected: Tensor, share: float) -> float:
    """The width at which `share` of the samples meet another one, by bisection of its logarithm."""
    high = 4.0 * float(projected.abs().max())
    low = high * 2.0**-20
    if high == 0.0 or float(_another(hasher.keys(projected, low)).double().mean()) >= share:
        raise CallError(
            f"at least {share:.0%} of the real samples are copies of others: no width tells them apart"
        )
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        if float(_another(hasher.keys(projected, middle)).double().mean()) < share:
            low = middle
        else:
            high = middle
    return high


def _another(keys: Tensor) -> Tensor:
    """Which samples share a bucket with another of the same set: bool (n,)."""
    hit = torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
    for column in keys.unbind(1):
        value, order = column.sort()
        same = value[1:] == value[:-1]
        hit[order[1:][same]] = True
        hit[order[:-1][same]] = True
    return hit


def _member(keys: Tensor, of: Tensor) -> Tensor:
    """Which samples share a bucket with one of the other set: bool (n,)."""
    hit = torch.zeros(len(keys), dtype=torch.bool, device=keys.device)
    if not len(of):
        return hit
    for column, table in zip(keys.unbind(1), of.unbind(1), strict=True):
        value = table.sort().values
        at = torch.searchsorted(value, column.contiguous()).clamp_(max=len(value) - 1)
        hit |= value[at] == column
    return hit

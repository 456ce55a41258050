"""Authenticity: is a generated sample new, or nearer to a training sample than other training samples are?

Alaa et al., "How faithful is your synthetic data? Sample-level metrics for evaluating and auditing generative
models", ICML 2022 (https://arxiv.org/abs/2102.08921), section 4.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from niwaki.evaluation.pairwise.sweep import Nearest, Pairs
from niwaki.evaluation.statistics.arrays import beside, features
from niwaki.evaluation.statistics.result import Result, signature, wilson

__all__ = ["authenticity"]


def authenticity(train: Any, generated: Any, *, test: Any | None = None, block: int = 2048) -> Result:
    """Share of generated samples that are authentic, 0 … 1: d(g, t) > d(t, t'), t the training sample nearest
    to g and t' the training sample nearest to t, itself excluded.

    train, generated: features (n, d), at least 3 training samples
    test:             held-out real features (n, d)
    block:            side of a block of pairs
    A perfect generator does not score 1 but about 0.6 (on normal data 0.4 in 2 dimensions, 0.8 in 64), so
    read the value beside its floor: what the held-out `test` samples score in place of the generated ones,
    or, without them, what each training sample scores against the others. Samples drawn to the middle of the
    data score lower too. `per_sample` is 1 where authentic, else 0. The interval is Wilson's, over the
    generated samples. A tie (a copy of a duplicated training sample too) is not authentic. Of equally near
    training samples the first counts.
    Raises CallError for fewer than three training samples, differing widths, NaN.
    """
    x = features(train, "train", least=3)
    y = beside(x, generated, "generated")
    own = Pairs(x, block=block).nearest(2)
    new = _authentic(x, y, own, block).cpu().numpy().astype(np.float64)
    if test is None:
        floor = float(_left_out(own).double().mean())
    else:
        floor = float(_authentic(x, beside(x, test, "test"), own, block).double().mean())
    text = signature(
        "authenticity",
        floor="left-out train" if test is None else "test",
        d=x.shape[1],
        train=len(x),
        test=None if test is None else len(test),
        generated=len(y),
    )
    return Result(float(new.mean()), wilson(new.sum(), len(new)), floor, new, (len(x), len(y)), None, text)


def _authentic(x: Tensor, y: Tensor, own: Nearest, block: int) -> Tensor:
    """d(g, t) > d(t, t') for every row g of y: bool (len(y),).

    d(t, t') is looked up by the index of t in the *training* set; two public versions look it up by the index
    of a generated sample, and score 10 points copied 50 times 0.906 instead of 0.
    """
    near = Pairs(y, x, block=block).nearest(1)
    return near.d2[:, 0] > own.d2[near.index[:, 0], 0]


def _left_out(own: Nearest) -> Tensor:
    """The same for every training sample against the others: t' must not be the one that was left out."""
    t = own.index[:, 0]
    itself = torch.arange(len(t), device=t.device)
    second = own.d2[t, (own.index[t, 0] == itself).long()]
    return own.d2[:, 0] > second

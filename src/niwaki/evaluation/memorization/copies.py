"""The nearest training neighbours of generated samples: is it new, or was it learnt by heart?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki.evaluation.pairwise.sweep import Pairs
from niwaki.evaluation.statistics.arrays import pair
from niwaki.evaluation.statistics.result import Result, signature, wilson

__all__ = ["Copies", "find_copies"]

CLOSE = 0.01
"""A sample counts as close where fewer than this share of real test samples are so near to a training
sample."""


@dataclass(frozen=True)
class Copies:
    """Distances of generated samples to the training split, in one extractor's features.

    index, distance: of the nearest training sample of each generated one `(n,)`
    pixel:           root mean squared difference to it as a share of the value range `(n,)`
    limit:           the 1 % quantile of the distance between a test sample and its nearest training sample
    close:           share of generated samples below the limit; a model that copies nothing has 0.01
    identical:       generated samples equal to their training neighbour to half a grey level
    equal:           which they are, bool `(n,)`
    """

    index: np.ndarray
    distance: np.ndarray
    pixel: np.ndarray
    limit: float
    close: Result
    identical: int
    equal: np.ndarray

    def to_json(self, most: int = 16) -> dict[str, Any]:
        order = np.argsort(self.distance, kind="stable")[:most]
        return {
            "close": self.close.to_json(),
            "identical": self.identical,
            "limit": self.limit,
            "nearest": [
                {
                    "sample": int(i),
                    "train_index": int(self.index[i]),
                    "distance": float(self.distance[i]),
                    "pixel_distance": float(self.pixel[i]),
                }
                for i in order
            ],
            "of_first": {
                "train_index": self.index[:most].tolist(),
                "distance": self.distance[:most].tolist(),
            },
        }


def find_copies(
    train: np.ndarray,
    test: np.ndarray,
    generated: np.ndarray,
    *,
    train_samples: np.ndarray,
    generated_samples: np.ndarray,
    span: float | np.ndarray,
    levels: int,
    name: str,
) -> Copies:
    """train, test, generated: features (n, d). span: width of the value range, or
    of each value's. levels: grey levels in it, 0
    for amounts, which are taken in 256 steps."""
    x, y = pair(train, generated)
    near = Pairs(y, x).nearest(1)
    index = near.index[:, 0].cpu().numpy()
    distance = near.d2[:, 0].sqrt().cpu().numpy()
    x, z = pair(train, test)
    real = Pairs(z, x).nearest(1).d2[:, 0].sqrt().cpu().numpy()
    limit = float(np.quantile(real, CLOSE))
    difference = (train_samples[index].astype(np.float64) - generated_samples).reshape(len(index), -1) / span
    pixel = np.sqrt((difference**2).mean(1))
    below = (distance < limit).astype(np.float64)
    text = signature(
        "close_to_train", quantile=CLOSE, features=name, train=len(train), generated=len(generated)
    )
    sizes = (len(test), len(generated))
    close = Result(float(below.mean()), wilson(below.sum(), len(below)), CLOSE, below, sizes, None, text)
    equal = np.abs(difference).max(1) < 0.5 / ((levels or 256) - 1)
    return Copies(index, distance, pixel, limit, close, int(equal.sum()), equal)

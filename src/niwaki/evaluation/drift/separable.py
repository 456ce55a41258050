"""Drift of any kind: a classifier tells new samples from old ones.

Trained on the blocks that have come, it scores the next ones (Podkopaev & Ramdas, "Sequential predictive
two-sample and independence testing", NeurIPS 2023): what it has learned by chance gains it nothing on samples
that it has not seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from niwaki.evaluation.drift.channel import Channel, Reference, rank_allowance, register_channel
from niwaki.evaluation.statistics.ranks import mid_ranks

__all__ = ["Separable"]

_DIRECTIONS = 32
"""Principal directions of the training samples that it looks along."""
_MOST = 4000
"""Samples of either side that it learns from, the latest ones."""
_UPDATES = 40
"""Classifiers in the life of a watch: it learns after block 1, 2, 4, 8 …"""


@register_channel("separable")
class Separable(Channel):
    """Rank of a logistic regression's logit among those of held samples, which it never learns from."""

    title = "are told from held-out ones by a classifier"
    streams = ("inputs", "outputs")
    learns = True

    def __init__(self, reference: Reference, seed: int = 0) -> None:
        super().__init__(reference, seed)
        train = reference.train.astype(np.float64)
        self.centre = train.mean(0)
        _, size, axes = np.linalg.svd(train[:_MOST] - self.centre, full_matrices=False)
        keep = min(_DIRECTIONS, int((size > 1e-6 * size[0]).sum())) if size.size and size[0] > 0 else 1
        self.axes = axes[:keep] / np.maximum(size[:keep, None], 1e-12) * np.sqrt(len(train[:_MOST]))
        self.weight: np.ndarray | None = None
        self._held = self._seen(reference.held)

    def _seen(self, x: np.ndarray) -> np.ndarray:
        """Whitened coordinates and their squares: spreads that change are seen, too."""
        z = (x - self.centre) @ self.axes.T
        return np.concatenate([z, z**2 - 1.0], axis=1)

    def scores(self, block: np.ndarray) -> np.ndarray:
        if self.weight is None:
            return np.zeros(0)
        return mid_ranks(self._seen(block) @ self.weight, self._held @ self.weight)

    def allowance(self, level: float) -> float:
        """For every classifier that there will be."""
        return rank_allowance(len(self._held), level / _UPDATES)

    def learn(self, blocks: list[np.ndarray]) -> None:
        count = len(blocks)
        if count & (count - 1):  # no power of two
            return
        from sklearn.linear_model import LogisticRegression

        new = self._seen(np.concatenate(blocks)[-_MOST:])
        rng = np.random.default_rng([self.seed, count])
        train = self.reference.train
        old = self._seen(train[rng.permutation(len(train))[:_MOST]])
        x = np.concatenate([old, new])
        y = np.r_[np.zeros(len(old)), np.ones(len(new))]
        model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=200)
        self.weight = model.fit(x, y).coef_[0].astype(np.float64)

    def state(self) -> dict[str, np.ndarray]:
        return {} if self.weight is None else {"weight": self.weight}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.weight = state.get("weight")

"""What the metrics of one extractor are made from, and the one sweep that feeds many of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from niwaki.core.errors import CallError

if TYPE_CHECKING:
    from niwaki.evaluation.metrics.gram import RBF, GramMetrics, Polynomial
    from niwaki.evaluation.statistics.result import Result

__all__ = ["FeatureSets", "K"]

K = 5


@dataclass(frozen=True)
class FeatureSets:
    """The features of one extractor: all that a metric may use.

    real, generated: features `(n, d)`
    reference:       features of as many training samples as there are generated ones: they stand in for those
                     of a perfect model
    train:           features of the whole training split
    probabilities:   of the classes, of the generated samples `(n, classes)`; None without a classifier
    of_reference:    the same of the reference
    intervals:       whether they are wanted
    names:           of all metrics that are, so that the sweep sums no kernel in vain
    """

    real: np.ndarray
    generated: np.ndarray
    reference: np.ndarray
    train: np.ndarray
    seed: int = 0
    probabilities: np.ndarray | None = None
    of_reference: np.ndarray | None = None
    intervals: bool = True
    names: tuple[str, ...] = ()

    @cached_property
    def sweep(self) -> GramMetrics:
        """What feeds every neighbour and kernel metric: one pass over all pairs."""
        from niwaki.evaluation.metrics.gram import RBF, Polynomial, gram_metrics

        kernels: list[Polynomial | RBF] = [Polynomial()] if "kernel" in self.names else []
        if "cmmd" in self.names and all(x.any(1).all() for x in (self.real, self.generated)):
            kernels.append(RBF())
        try:
            return gram_metrics(self.real, self.generated, k=K, kernels=kernels, distributed=False)
        except CallError:
            if not kernels:
                raise
        # What a kernel cannot do says nothing of neighbours.
        return gram_metrics(self.real, self.generated, k=K, kernels=(), distributed=False)

    def swept(self, kernel: Polynomial | RBF) -> Result | None:
        """The distance by a kernel from the sweep; None where it is to be had by itself alone, if at all."""
        try:
            return self.sweep.kernels.get(kernel)
        except CallError:  # of the neighbours
            return None

    def ideal(self) -> FeatureSets:
        """The reference in the place of the generated samples."""
        return replace(self, generated=self.reference, probabilities=self.of_reference, intervals=False)

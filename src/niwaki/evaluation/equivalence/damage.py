"""What compression did to single samples: how far each pair of the same seed lies apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from niwaki.core.contract import DataSpec
from niwaki.evaluation.statistics.samples import value_widths

__all__ = ["Damage", "damage"]


@dataclass(frozen=True)
class Damage:
    """Of each pair: how far apart.

    feature: distance in features, in units of the typical distance between neighbouring real samples,
             averaged over the extractors `(n,)`: 1 is as different as two neighbouring real samples are
    pixel:   root mean squared difference as a share of the value range `(n,)`
    ranking: pairs by feature distance, the most damaged first `(n,)`
    by_class: mean feature distance of each class
    """

    feature: np.ndarray
    pixel: np.ndarray
    ranking: np.ndarray
    by_class: dict[str, float]

    def to_json(self, most: int = 64) -> dict[str, Any]:
        quantiles = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)
        top = self.ranking[:most]
        return {
            "ranking": top.tolist(),
            "feature_distance": self.feature[top].tolist(),
            "pixel_distance": self.pixel[top].tolist(),
            "quantiles": {f"{q:g}": float(np.quantile(self.feature, q)) for q in quantiles},
            "pixel_quantiles": {f"{q:g}": float(np.quantile(self.pixel, q)) for q in quantiles},
            "by_class": self.by_class,
        }


def damage(
    before: np.ndarray,
    after: np.ndarray,
    features: list[tuple[np.ndarray, np.ndarray, float]],
    spec: DataSpec,
    labels: np.ndarray | None,
) -> Damage:
    """before, after: samples (n, *shape). features: of each extractor (before, after, typical distance of
    real neighbours)."""
    n = len(before)
    parts = [np.linalg.norm(b - a, axis=1) / max(unit, 1e-12) for b, a, unit in features]
    feature = np.mean(parts, axis=0)
    difference = (before.astype(np.float64) - after).reshape(n, -1)
    difference /= value_widths(spec, before).reshape(-1)
    names = spec.class_names or tuple(map(str, range(spec.classes)))
    by_class = {}
    if labels is not None and names:
        by_class = {names[c]: float(feature[labels == c].mean()) for c in np.unique(labels)}
    ranking = np.argsort(-feature, kind="stable")
    return Damage(feature, np.sqrt((difference**2).mean(1)), ranking, by_class)

"""Which modes a model has lost, and which samples to look at: of each the real ones that it should make, and
the generated ones that come nearest to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from niwaki.data import Dataset
from niwaki.evaluation.evaluate import Evaluation

__all__ = ["lost_modes"]

HALF = 0.5
"""A mode is lost where it surely has less than this share of what it should have; else it is reduced."""
K, SHOWN = 5, 6
"""The neighbour that says how densely real samples lie; real samples that are named of a mode."""


def lost_modes(
    generated: np.ndarray, clusters: Mapping[str, Any], evaluation: Evaluation, dataset: Dataset, first: Any
) -> dict[str, Any]:
    """Clusters and classes that certainly get less than they should, ready for JSON.

    generated: features `(n, d)` in the extractor `first`; clusters: as `coverage_per_cluster` recorded them

    ratio:    of a cluster: share of generated / share of real samples; of a class: covered share of its real
              samples / the share that as many training samples cover. 1 as it should be, 0 lost
    interval: of the ratio; those of all clusters hold together with 95 %, and so do those of all classes
    lost:     it ends below ½; of every mode that is listed it ends below 1
    share, made: what is divided: shares of the real and of the generated samples, or covered shares
    real, nearest: positions of test samples of the mode (of a cluster the most typical, of a class the most
              typical of those that are not covered), and of the generated sample nearest to each
    apart:    distance between both, in that of the real sample to its k-th real neighbour: above 1 it is not
              covered
    """
    from niwaki.evaluation.pairwise.sweep import Pairs
    from niwaki.evaluation.statistics.arrays import pair
    from niwaki.evaluation.statistics.samples import split_features

    real = split_features(first, dataset, evaluation.split)
    x, y = pair(real, generated)
    near = Pairs(x, y).nearest(1)
    nearest, distance = near.index[:, 0].cpu().numpy(), near.d2[:, 0].sqrt().cpu().numpy()
    radius = Pairs(x).nearest(K).d2[:, -1].sqrt().cpu().numpy()
    apart = distance / np.maximum(radius, np.finfo(np.float64).tiny)
    found = [*_clusters(clusters), *_classes(evaluation, dataset, first.name, real, apart)]
    found.sort(key=lambda mode: (not mode["lost"], mode["ratio"]))
    for mode in found:
        shown = np.asarray(mode["real"][:SHOWN], dtype=np.int64)
        mode |= {
            "real": shown.tolist(),
            "nearest": nearest[shown].tolist(),
            "apart": np.minimum(apart[shown], 1e9).tolist(),
        }
    looked = {"cluster": len(clusters.get("clusters", ())), "class": len(evaluation.per_class)}
    return {"features": first.name, "looked_at": looked, "found": found}


def _clusters(clusters: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those with fewer generated samples than they should have."""
    cells, out = clusters.get("clusters", ()), []
    total = sum(cell["generated"] for cell in cells)
    for cluster in cells:
        low, high = cluster["ratio"]["interval"]
        if high is not None and high < 1:
            out.append(
                {
                    "kind": "cluster",
                    "name": cluster["name"],
                    "lost": cluster["index"] in clusters["dropped"],
                    "ratio": cluster["ratio"]["value"],
                    "interval": [low, high],
                    "share": cluster["expected"],
                    "made": cluster["generated"] / total,
                    "real": cluster["typical"],
                }
            )
    return out


def _classes(
    evaluation: Evaluation, dataset: Dataset, name: str, real: np.ndarray, apart: np.ndarray
) -> list[dict[str, Any]]:
    """Those of which fewer real samples are covered than training samples would cover."""
    from niwaki.evaluation.statistics.shares import bonferroni, ratio

    y = dataset.split(evaluation.split).y
    if y is None:
        return []
    classes, z, out = y.cpu().numpy(), bonferroni(len(evaluation.per_class)), []
    for title, record in evaluation.per_class.items():
        n, covered, ideal = record["real"], record["coverage"][name], record["train"][name]
        low, high = ratio(round(covered * n), n, round(ideal * n), n, z)
        if not ideal or not math.isfinite(high) or high >= 1:
            continue
        members = np.flatnonzero(classes == record["class"])
        middle = real[members].mean(0)
        far = ((real[members] - middle) ** 2).sum(1)
        # those that are missed come first, the typical before the odd
        order = members[np.lexsort((far, apart[members] < 1))]
        out.append(
            {
                "kind": "class",
                "name": title,
                "lost": high < HALF,
                "ratio": covered / ideal,
                "interval": [low, high],
                "share": ideal,
                "made": covered,
                "real": order.tolist(),
            }
        )
    return out

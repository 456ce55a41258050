"""Train a filter on a user's own good and bad samples: an extractor's features, a linear head, and a
threshold from samples that the head has not seen."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from niwaki.core.contract import CallError, DataSpec
from niwaki.core.graph import Graph, Port
from niwaki.core.store import write_bytes
from niwaki.core.version import __version__
from niwaki.deployment.bake import bake
from niwaki.deployment.export import to_onnx
from niwaki.evaluation.statistics.result import wilson
from niwaki.features.extractor import NetworkExtractor
from niwaki.filters.base import FilterPlace
from niwaki.filters.kinds.network import GRAPH, RECORD, SCHEMA, NetworkFilter
from niwaki.filters.rates import area_under, roc, threshold_at

__all__ = ["fit_filter"]

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date that a zip knows: the file depends on its content alone
_FEWEST = 8
_STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
_FOLDS = 4
_DRAWN = 200
"""Points of the ROC that the record keeps."""


class _Scoring(nn.Module):
    """x → P(bad) (n, 1): features, standardised, a linear head."""

    mean: Tensor
    scale: Tensor

    def __init__(self, extractor: NetworkExtractor, mean: Tensor, scale: Tensor, head: nn.Linear) -> None:
        super().__init__()
        self.network, self.head = extractor.network, head
        self.features = extractor.tensor_features
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        spec = extractor.spec
        self.range = (spec.low, spec.high) if spec.axes == "CHW" else None

    def forward(self, x: Tensor) -> Tensor:
        if self.range is not None:
            x = x.clamp(*self.range)
        return self.head((self.features(x) - self.mean) * self.scale).sigmoid()


def fit_filter(
    path: Path,
    good: np.ndarray,
    bad: np.ndarray,
    extractor: NetworkExtractor,
    spec: DataSpec,
    *,
    rate: float = 0.01,
    held_out: float = 0.5,
    seed: int = 0,
    data: str = "",
) -> dict[str, Any]:
    """Write the filter `path` and return what it says of itself (`NetworkFilter.to_json`).

    good, bad: samples `(n, *shape)`, `(m, *shape)` in the spec's range, at least 8 each
    rate:      share of good samples that may be withheld
    held_out:  share of both that threshold, ROC and rates are taken from; the head never learns from them
    The strength of the head's penalty is chosen by cross-validation among the others.
    Raises CallError for too few samples, and where the rate cannot be promised with so few.
    """
    if min(len(good), len(bad)) < _FEWEST:
        raise CallError(
            f"a filter needs at least {_FEWEST} samples of each side, not {len(good)} and {len(bad)}"
        )
    if not 0 < held_out < 1:
        raise CallError(f"the held-out share must lie between 0 and 1, not {held_out}")
    if not isinstance(extractor, NetworkExtractor):
        raise CallError(
            f"the features '{extractor.name}' are no network; choose --features random or classifier"
        )
    rng = np.random.default_rng(seed)
    parts = [_divided(x, held_out, rng) for x in (good, bad)]
    learnt, kept = [p[0] for p in parts], [p[1] for p in parts]
    threshold_at(np.zeros(len(kept[0])), rate)  # whether there are enough is said before the work
    module = _fitted(extractor, learnt[0], learnt[1], seed)
    port = Port(
        "x", (1, *spec.shape), "int64" if spec.is_tokens else "float32", high=getattr(spec.x.values, "n", 0)
    )
    graph = Graph("filter", module, (port,), ("score",))
    content = to_onnx("filter", graph, bake(module)).SerializeToString()
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "name": path.stem,
        "niwaki": __version__,
        "spec": spec.x.to_json(),
        "graph_sha256": hashlib.sha256(content).hexdigest(),
        "features": extractor.name,
        "data": data,
        "seed": seed,
        "learnt": {"good": len(learnt[0]), "bad": len(learnt[1])},
        "threshold": {"value": 1.0},
    }
    # What is promised is promised of the graph as it will be run.
    ready = NetworkFilter(record, content, FilterPlace(path))
    scores_good, scores_bad = (ready.score(x, spec.x) for x in kept)
    threshold = threshold_at(scores_good, rate)
    caught = int((scores_bad > threshold.value).sum())
    wrongly = int((scores_good > threshold.value).sum())
    at, false, true = roc(scores_good, scores_bad)
    step = max(1, len(at) // _DRAWN)
    record |= {
        "threshold": threshold.to_json(),
        "area": area_under(scores_good, scores_bad).to_json(),
        "rates": {
            "asked": rate,
            "false_positive": wrongly / len(scores_good),
            "true_positive": caught / len(scores_bad),
            "true_positive_interval": list(wilson(caught, len(scores_bad))),
            "n": {"good": len(scores_good), "bad": len(scores_bad)},
        },
        "roc": [[float(f), float(t)] for f, t in zip(false[::step], true[::step], strict=True)],
    }
    write_bytes(path, _zipped(record, content))
    return NetworkFilter(record, content, FilterPlace(path)).to_json()


def _divided(x: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(to learn from, held out), equal samples on one side."""
    _, group = np.unique(x.reshape(len(x), -1), axis=0, return_inverse=True)
    order = rng.permutation(int(group.max()) + 1)
    out = np.isin(group.reshape(-1), order[: max(1, round(share * len(order)))])
    if out.all():
        raise CallError("all of the samples are equal; a filter needs different ones")
    return x[~out], x[out]


def _fitted(extractor: NetworkExtractor, good: np.ndarray, bad: np.ndarray, seed: int) -> _Scoring:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    features = extractor(np.concatenate([good, bad])).astype(np.float64)
    truth = np.repeat([0, 1], [len(good), len(bad)])
    mean, deviation = features.mean(0), features.std(0)
    scale = np.where(deviation > 1e-6, 1.0 / np.maximum(deviation, 1e-6), 0.0)
    folds = StratifiedKFold(min(_FOLDS, len(good), len(bad)), shuffle=True, random_state=seed)
    head = GridSearchCV(
        LogisticRegression(class_weight="balanced", max_iter=500), {"C": list(_STRENGTHS)},
        scoring="neg_log_loss", cv=folds,
    )  # fmt: skip
    head.fit((features - mean) * scale, truth)
    linear = nn.Linear(features.shape[1], 1)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(head.best_estimator_.coef_))
        linear.bias.copy_(torch.from_numpy(head.best_estimator_.intercept_))
    extractor.network.cpu()
    centre, factor = torch.from_numpy(mean).float(), torch.from_numpy(scale).float()
    return _Scoring(extractor, centre, factor, linear).eval().requires_grad_(False)


def _zipped(record: dict[str, Any], graph: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in ((RECORD, json.dumps(record, indent=1).encode()), (GRAPH, graph)):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return file.getvalue()

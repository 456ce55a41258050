"""Sheets of samples: what the run ended with, beside real ones that were chosen in the same way."""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki.core.contract import DataSpec
from niwaki.modalities import modality_of
from niwaki.report import figures, pictures
from niwaki.report.record import RunRecord

__all__ = ["is_media", "samples", "shown_of"]

SAMPLES = 60  # pictures, and at least one of each class
FEWEST, LARGE = 10, 2_000_000  # pictures; values on a sheet of large ones
TEXTS, POINTS = 8, 1000  # texts or recordings; what is neither


def shown_of(spec: DataSpec, kind: str) -> int:
    """How many samples are shown: fewer of large pictures, which would make the page heavy.

    kind: of media, as a modality shows one sample
    """
    if pictures.drawable(spec):
        return max(spec.classes, FEWEST, min(SAMPLES, LARGE // spec.size))
    return TEXTS if is_media(spec, kind) else POINTS


def is_media(spec: DataSpec, kind: str) -> bool:
    """Whether samples are texts or recordings; few tokens are shown as points."""
    return kind in ("text", "sound") and spec.size > 12


def samples(record: RunRecord) -> dict[str, Any]:
    """What the run ended with, beside real samples; a chart where they are no pictures.

    tiles, real:       pictures with their captions
    media, real_media: texts or recordings with theirs
    classes:           whether they are the first of every class, or the first of all
    """
    kept, spec = record.samples, record.spec
    side = "after" if "after" in kept else "before"
    if side not in kept or spec is None:
        return {}
    found: dict[str, Any] = {
        "of": "the compressed bundle on its engine" if side == "after" else "the trained model",
        "tiles": [], "real": [], "media": [], "real_media": [], "columns": 0, "chart": None, "classes": False,
    }  # fmt: skip
    labels = record.labels
    real, real_labels = record.real.get("samples", kept[side][:0]), record.real.get("labels")
    kind = pictures.kind(kept[side][0], spec, record.files)
    if pictures.drawable(spec):
        found["tiles"] = _tiles(record, kept[side], labels)
        found["real"] = _tiles(record, real, real_labels, numbered=False)
        found["classes"] = labels is not None
        if labels is not None and 5 <= spec.classes <= 12 and kind != "plot":
            found["columns"] = spec.classes
    elif is_media(spec, kind):
        found["media"] = _media(record, kept[side], labels)
        found["real_media"] = _media(record, real, real_labels, numbered=False)
    else:
        sets: dict[str, np.ndarray] = {k: kept[k] for k in ("before", "after") if k in kept}
        found["chart"] = figures.points("first two coordinates", sets)
    return found


def _tiles(
    record: RunRecord, x: np.ndarray, labels: np.ndarray | None, *, numbered: bool = True
) -> list[tuple[str, str]]:
    """numbered: what has no class is called by its number, which seeds make again"""
    spec = record.spec
    assert spec is not None
    index = pictures.spread(labels, len(x), shown_of(spec, "")) if len(x) else []
    named = numbered or labels is not None
    return [(pictures.picture(x[i], spec), record.caption(labels, i) if named else "") for i in index]


def _media(
    record: RunRecord, x: np.ndarray, labels: np.ndarray | None, *, numbered: bool = True
) -> list[tuple[Any, str]]:
    spec = record.spec
    assert spec is not None
    named = numbered or labels is not None
    return [
        (modality_of(spec.x).show(one, spec.x, record.files), record.caption(labels, i) if named else "")
        for i, one in enumerate(x[:TEXTS])
    ]

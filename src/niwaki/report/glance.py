"""A handful of samples for the top of the page: real ones beside what the model makes."""

from __future__ import annotations

from typing import Any

import numpy as np

from niwaki.modalities import modality_of
from niwaki.report import figures, pictures
from niwaki.report.record import RunRecord
from niwaki.report.sheet import is_media
from niwaki.report.words import sentence_list

__all__ = ["glance", "real_beside"]

COLUMNS, PLOTS, TEXTS, EXHIBITS = 10, 4, 2, 3
NAMES = {
    "real": "a real one of the test split",
    "before": "one of the trained model",
    "after": "one of the bundle",
}


def real_beside(labels: np.ndarray | None, made: np.ndarray | None, index: list[int]) -> list[int | None]:
    """For each made sample a real one of its class, no one twice; without classes simply the next one.

    labels: of the real samples, or None; made: of the samples made, or None; index: which of these are shown
    """
    if labels is None or made is None:
        return list(range(len(index)))
    waiting: dict[int, list[int]] = {}
    for place, label in enumerate(labels.astype(int)):
        waiting.setdefault(int(label), []).append(place)
    queues = {label: iter(places) for label, places in waiting.items()}
    return [next(queues.get(int(made[i]), iter(())), None) for i in index]


def glance(record: RunRecord) -> dict[str, Any]:
    """The handful; empty where the run kept no samples and no judge shows any.

    columns: one for each class in turn, real above made, where samples are pictures
    media:   texts or recordings; chart: points; exhibits: what the first judge shows
    """
    spec = record.spec
    kept = record.samples
    made: dict[str, np.ndarray] = {side: kept[side] for side in ("before", "after") if side in kept}
    if spec is None or not made:
        return _exhibits(record)
    kind = pictures.kind(next(iter(made.values()))[0], spec, record.files)
    if pictures.drawable(spec):
        return _columns(record, made, PLOTS if kind == "plot" else COLUMNS)
    if is_media(spec, kind):
        return _media(record, made)
    sets = {"real": record.real["samples"]} if record.real else {}
    return {
        "chart": figures.points("the first two coordinates", {**sets, **made}),
        "legend": f"Each point is a sample: {_legend(sets, made)}.",
        "columns": [], "media": [], "exhibits": [],
    }  # fmt: skip


def _columns(record: RunRecord, made: dict[str, np.ndarray], count: int) -> dict[str, Any]:
    spec, labels = record.spec, record.labels
    assert spec is not None
    index = pictures.spread(labels, len(next(iter(made.values()))), count)
    real = record.real.get("samples")
    places = real_beside(record.real.get("labels"), labels, index)
    columns = []
    for i, place in zip(index, places, strict=True):
        shown = [] if real is None or place is None or place >= len(real) else [("real", real[place])]
        shown += [(side, samples[i]) for side, samples in made.items()]
        columns.append(
            {
                "pictures": [(NAMES[name], pictures.picture(x, spec)) for name, x in shown],
                "caption": "" if labels is None else record.class_name(int(labels[i])),
            }
        )
    order = _legend({"real": real} if real is not None else {}, made)
    same = " of the same noise" if len(made) == 2 else ""
    return {
        "columns": columns, "media": [], "chart": None, "exhibits": [],
        "legend": f"From above: {order}{same}. None was picked by its looks.",
    }  # fmt: skip


def _media(record: RunRecord, made: dict[str, np.ndarray]) -> dict[str, Any]:
    spec = record.spec
    assert spec is not None
    side, samples = list(made.items())[-1]
    real = record.real.get("samples", ())
    order = _legend({"real": real} if len(real) else {}, {side: samples})
    chosen = [
        (name, x[i]) for i in range(TEXTS) for name, x in (("real", real), (side, samples)) if i < len(x)
    ]
    return {
        "media": [(modality_of(spec.x).show(x, spec.x, record.files), NAMES[name]) for name, x in chosen],
        "legend": f"{order[0].upper()}{order[1:]}, {TEXTS} of each. None was picked by its looks.",
        "columns": [], "chart": None, "exhibits": [],
    }  # fmt: skip


def _exhibits(record: RunRecord) -> dict[str, Any]:
    for section in record.sections.get("after") or record.sections.get("before") or []:
        details = section.get("details") or {}
        if details.get("exhibits"):
            return {
                "exhibits": details["exhibits"][:EXHIBITS], "legend": details.get("legend", ""),
                "columns": [], "media": [], "chart": None,
            }  # fmt: skip
    return {}


def _legend(real: dict[str, Any], made: dict[str, Any]) -> str:
    return sentence_list([NAMES[name] for name in (*real, *made)])

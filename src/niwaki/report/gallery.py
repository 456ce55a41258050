"""Pairs of the same noise, and the pairs that changed most."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from niwaki.report import figures, pictures, words
from niwaki.report.record import RunRecord

__all__ = ["damage_gallery", "damage_of", "no_pairs", "pairs"]

PAIRS, WORST, USUAL = 12, 12, 4
QUANTILES = (("half of all pairs", "0.5"), ("90 %", "0.9"), ("99 %", "0.99"))


def pairs(record: RunRecord) -> list[dict[str, Any]]:
    """Some pairs, the classes in turn."""
    if not _paired(record):
        return []
    damage, _ = damage_of(record)
    index = pictures.spread(record.labels, len(record.samples["before"]), PAIRS)
    return [_pair(record, i, damage, original=True) for i in index]


def no_pairs(record: RunRecord) -> str:
    """Why there are none."""
    if not record.judged_by_samples:
        return "the run was judged by other means than pairs of samples"
    if not {"before", "after"} <= record.samples.keys():
        return "the run has not compared a bundle with its model"
    kind = record.spec.modality if record.spec else "these data"
    return f"samples of the kind '{kind}' are no pictures; how far each moved is told below"


def damage_gallery(record: RunRecord) -> dict[str, Any]:
    """The pairs that compression moved furthest, ranked; those in the middle of the ranking, to compare them
    with; how far all moved; and what the most changed have in common. Empty where there are no pairs."""
    damage, unit = damage_of(record)
    if damage is None or not len(damage):
        return {}
    shown = _paired(record)
    order = np.argsort(-damage, kind="stable")
    middle = max(0, (len(order) - USUAL) // 2)
    moved, (called, whole) = _moved(record), _values(record)
    worst, usual = order[:WORST], order[middle : middle + USUAL]
    enough = len(order) >= 2 * (WORST + USUAL)
    return {
        "unit": unit,
        "n": words.count_text(len(order)),
        "worst": [_pair(record, int(i), damage, rank) for rank, i in enumerate(worst, 1)] if shown else [],
        "usual": [_pair(record, int(i), damage) for i in usual] if shown and enough else [],
        "chart": figures.histogram("damage", damage, unit.split("; ")[0]) if len(order) >= 8 else None,
        "figures": [
            *((name, words.number_text(float(np.quantile(damage, float(q))), 2)) for name, q in QUANTILES),
            ("the most changed", words.number_text(float(damage.max()), 2)),
            (f"{called} of the most changed", f"{100 * float(moved[order[0]]):.1f} % of {whole}"),
        ],
        "common": str((record.comparison.get("common") or {}).get("text") or ""),
    }


def damage_of(record: RunRecord) -> tuple[np.ndarray | None, str]:
    """How far each pair of samples lies apart `(n,)`, and in what unit."""
    kept = record.samples
    before, after = kept.get("before"), kept.get("after")
    given = kept.get("damage")
    if given is not None and before is not None and given.shape == (len(before),):
        return (
            given,
            "distance in features; 1 is as different as two neighbouring real samples are",
        )
    if before is None or after is None:
        return None, ""
    return _moved(record), "mean difference of {}, as a share of {}".format(*_values(record))


def _values(record: RunRecord) -> tuple[str, str]:
    """What the numbers of a sample are called, and what their differences are a share of."""
    spec = record.spec
    bounded = spec is None or math.isfinite(spec.high - spec.low)
    range_ = "the value range" if bounded else "what the samples before span"
    return "pixels" if spec is None or "HW" in spec.axes else "values", range_


def _moved(record: RunRecord) -> np.ndarray:
    """Mean difference of the values of each pair, as a share of their range `(n,)`; where that has no bounds,
    of what the samples before span."""
    before, after, spec = record.samples["before"], record.samples.get("after"), record.spec
    if after is None:
        return np.zeros(len(before))
    span = (spec.high - spec.low) if spec else 1.0
    if not math.isfinite(span):
        span = max(float(np.ptp(before)), 1e-12)
    return np.asarray(np.abs(after.astype(np.float64) - before).reshape(len(before), -1).mean(1) / span)


def _paired(record: RunRecord) -> bool:
    return {"before", "after"} <= record.samples.keys() and pictures.drawable(record.spec)


def _pair(
    record: RunRecord, i: int, damage: np.ndarray | None, rank: int = 0, *, original: bool = False
) -> dict[str, Any]:
    """original: beside it the nearest training sample, which is kept for the first samples alone."""
    spec, kept = record.spec, record.samples
    assert spec is not None
    before, after = kept["before"][i], kept["after"][i]
    nearest = kept.get("nearest") if original else None
    caption = record.caption(record.labels, i)
    return {
        "before": pictures.picture(before, spec),
        "after": pictures.picture(after, spec),
        "difference": pictures.difference(before, after, spec),
        "nearest": pictures.picture(nearest[i], spec) if nearest is not None and len(nearest) > i else "",
        "caption": f"{rank}. {caption}" if rank else caption,
        "class": "" if record.labels is None else caption,
        "note": "" if damage is None else words.number_text(float(damage[i]), 2),
    }

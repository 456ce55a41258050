"""Two subjects beside each other, asked the same by every judge that both have: the one way to compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.core.errors import NiwakiError
from niwaki.core.store import jsonable, read_json, write_json
from niwaki.evaluation.judges import Evidence, Margins, Verdicts
from niwaki.report.records import EvaluationRecord
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.judging import PARTS, Judgement, calibrate, compare_evidence, headline, section_parts
from niwaki.workflow.subjects.asked import judge_subject
from niwaki.workflow.subjects.samples import Origin
from niwaki.workflow.subjects.subject import Subject, home_of

__all__ = ["SIDES", "compare_subjects"]

SIDES = ("before", "after")


def compare_subjects(
    context: EvaluationContext, subjects: Sequence[Subject], *, resize: bool = False
) -> dict[str, Any]:
    """What `niwaki.compare` returns, of the subjects before and after. Raises CallError where samples do not
    fit the data."""
    found: dict[str, dict[str, Judgement]] = {}
    origins: list[Origin] = []
    for side, subject in zip(SIDES, subjects, strict=True):
        judgements, origin = judge_subject(subject, context, resize=resize)
        found[side] = {j.judge.name: j for j in judgements}
        origins.append(origin)
    common = [name for name in found["before"] if name in found["after"]]
    paired = _same_noise(origins, [found[s][common[0]].evidence for s in SIDES])
    verdicts: dict[str, Any] = {}
    for name in common:
        first, second = (found[side][name].evidence for side in SIDES)
        first, second = _paired_rows(first, second) if paired else (first, _unpaired(second))
        margins = _margins(context, subjects[0], replace(found["before"][name], evidence=first))
        verdicts[name] = compare_evidence(context, found["before"][name].judge, first, second, margins)
    record: dict[str, Any] = {part: {} for part in PARTS}
    sections: dict[str, Any] = {}
    for side in SIDES:
        parts = section_parts(list(found[side].values()), side)
        sections[side] = parts.pop("sections")
        record[side] = parts.pop("evaluation", {})
        for part in PARTS:
            record[part] |= parts.pop(part)
        record |= parts
    said = [dict(found.details) for found in verdicts.values() if isinstance(found, Verdicts)]
    particulars = said[0] if said else {}
    axes = headline(list(verdicts.values()))
    return {
        **record,
        "n": min(found[side][common[0]].evidence.n for side in SIDES),
        "seed": context.config.seed,
        "paired": paired,
        "sources": {side: origin.to_json() for side, origin in zip(SIDES, origins, strict=True)},
        "sections": sections,
        "verdict": axes,
        "verdicts": jsonable(verdicts),
        "comparison": {**jsonable(particulars), **axes, "paired": paired},
    }


def _same_noise(origins: Sequence[Origin], evidence: Sequence[Evidence]) -> bool:
    """Whether item i of both was made from the same noise: the same known seed, the same labels."""
    a, b = origins
    if a.seed is None or a.seed != b.seed:
        return False
    labels = [e.arrays.get("labels") for e in evidence]
    if labels[0] is None or labels[1] is None:
        return labels[0] is None and labels[1] is None
    n = min(len(labels[0]), len(labels[1]))
    return bool(np.array_equal(labels[0][:n], labels[1][:n]))


def _paired_rows(a: Evidence, b: Evidence) -> tuple[Evidence, Evidence]:
    """Both cut to as many items as the shorter one has."""
    n = min(a.n, b.n)
    return _first(a, n), _first(b, n)


def _first(evidence: Evidence, n: int) -> Evidence:
    if evidence.n == n:
        return evidence
    rows = {k: v[:n] if v.ndim and len(v) == evidence.n else v for k, v in evidence.arrays.items()}
    return replace(evidence, n=n, arrays=rows)


def _unpaired(evidence: Evidence) -> Evidence:
    """The same, said to share no noise with anything."""
    return replace(evidence, facts={**evidence.facts, "paired": False})


def _margins(context: EvaluationContext, subject: Subject, judgement: Judgement) -> Any:
    """Margins of the side before: those that its run keeps where they are of the same evidence (`compare` of
    the judge sees by their key), else kept in the cache, else measured."""
    judge, evidence = judgement.judge, judgement.evidence
    home = home_of(subject.path)
    known = None if home is None else EvaluationRecord.read(home)
    kept = None if known is None else known.margins.get(judge.name)
    if (
        isinstance(kept, Mapping)
        and "left_out" not in kept
        and kept.get("key") == judge.margins_key(evidence, context.dataset)
    ):
        return Margins.from_json(kept)
    place: Path | None = None
    if context.cache is not None:
        key = judge.margins_key(evidence, context.dataset)
        place = context.cache / "margins" / f"{judge.name}-{key[:24]}.json" if key else None
    if place is not None and place.exists():
        try:
            return Margins.from_json(read_json(place))
        except (NiwakiError, KeyError):
            pass
    if subject.runner is None and judge.calibrates != evidence.split:
        return {"left_out": "margins need the model before, and only its samples are there"}
    made = calibrate(context, subject.runner, judgement)  # type: ignore[arg-type]
    if place is not None and isinstance(made, Margins):
        with suppress(NiwakiError):  # what cannot be kept is measured again
            write_json(place, made)
    return made

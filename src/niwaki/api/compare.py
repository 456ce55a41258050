"""Compare: two runs, models, bundles, folders of images or arrays, with a verdict on each axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.api.progress import with_progress
from niwaki.core.errors import NiwakiError
from niwaki.core.store import jsonable, read_json, write_json
from niwaki.evaluation.judges import Evidence, Margins, Verdicts
from niwaki.recipe import Override, Overrides, parse_overrides
from niwaki.report.records import EvaluationRecord
from niwaki.workflow.context import EvaluationContext, as_overrides
from niwaki.workflow.judging import PARTS, Judgement, calibrate, compare_evidence, headline, section_parts
from niwaki.workflow.notebook.answers import Comparison
from niwaki.workflow.own_tokenizer import cut_with_own
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.subjects.asked import judge_subject
from niwaki.workflow.subjects.data import context_of
from niwaki.workflow.subjects.external import is_external, split
from niwaki.workflow.subjects.samples import Origin
from niwaki.workflow.subjects.subject import Subject, home_of, kind_of, open_subject, refuse_for_others

__all__ = ["compare"]

SIDES = ("before", "after")


@with_progress
def compare(
    before: Any,
    after: Any,
    overrides: Overrides = (),
    *,
    data: Any = None,
    features: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    n: int | None = None,
    resize: bool = False,
    engine: str = "auto",
    memory: int | str | None = None,
    before_weights: str | Path | None = None,
    after_weights: str | Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Is `after` worse than `before`? Each is a run, a model, a factory (`package.module:function`), a
    pipeline's folder, a bundle, a folder of images or an array file.

    Sample by sample where both were made from the same seeds for the same classes; otherwise as two sets that
    share nothing. Of paired sides the longer one is cut.
    data, features, metrics, n, resize, engine, memory: as for `evaluate`; the last two are of bundles
    before_weights, after_weights: of factories, as `weights` of `evaluate`; all else has its weights inside
    overrides: `model.…` are keywords of `adapt` for what is adapted
    Returns `before` and `after` (metrics), `sections` by side, `sources`, `paired`, `verdict` by axis,
    `verdicts` by judge, `comparison` (the samples' verdicts, damage, what was lost), `clusters`, `bias`,
    `gate` and `modes` by side, `fitness`, `extractors`, `n`, `seed`.
    Raises CallError as `evaluate` does.
    """
    reporter = reporter or Quiet()
    changes: list[str | Override] = [*parse_overrides(overrides), *as_overrides(features, metrics, n)]
    options, rest = split(changes) if is_external(before) or is_external(after) else ({}, changes)
    if "bundle" not in (kind_of(before), kind_of(after)):
        refuse_for_others(before, engine, memory)
    context = context_of([before, after], data, rest, reporter)
    subjects = _opened(context, options, before, after, engine, memory, (before_weights, after_weights))
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
    return Comparison(
        {
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
    )


def _opened(
    context: EvaluationContext,
    options: Mapping[str, Any],
    before: Any,
    after: Any,
    engine: str,
    memory: int | str | None,
    weights: Sequence[str | Path | None],
) -> list[Subject]:
    """Both sides, before either is judged: what is refused is refused at once."""
    subjects = []
    for side, what, given in zip(SIDES, (before, after), weights, strict=True):
        how: dict[str, Any] = {}
        if kind_of(what) == "bundle":
            how = {"engine": engine, "memory": memory}
        elif is_external(what):
            how = {"options": options, "spec": context.dataset.spec}
        subject = open_subject(what, weights=given, named=f"{side}_weights", **how)
        cut_with_own(context, subject.runner)
        subjects.append(subject)
    return subjects


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

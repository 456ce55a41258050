"""Compare: two runs, models, bundles, folders of images or arrays, with a verdict on each axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from niwaki.api.progress import with_progress
from niwaki.recipe import Override, Overrides, parse_overrides
from niwaki.workflow.comparing import SIDES, compare_subjects
from niwaki.workflow.context import EvaluationContext, as_overrides
from niwaki.workflow.notebook.answers import Comparison
from niwaki.workflow.own_tokenizer import answering, cut_with_own
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.subjects.data import context_of
from niwaki.workflow.subjects.external import is_external, split
from niwaki.workflow.subjects.subject import Subject, kind_of, open_subject, refuse_for_others

__all__ = ["compare"]


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
    return Comparison(compare_subjects(context, subjects, resize=resize))


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
            how = dict(zip(("options", "spec"), answering(what, context, options), strict=True))
        subject = open_subject(what, weights=given, named=f"{side}_weights", **how)
        cut_with_own(context, subject.runner)
        subjects.append(subject)
    return subjects

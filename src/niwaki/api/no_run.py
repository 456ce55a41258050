"""A model of no run, as `compress` and `search` take it: in memory, a factory, a pipeline's folder, a saved
model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError, GenerativeModel
from niwaki.recipe import Override, Overrides, parse_overrides
from niwaki.workflow.context import context_for
from niwaki.workflow.given_model import open_given
from niwaki.workflow.own_tokenizer import answering, cut_with_own
from niwaki.workflow.reporter import Reporter
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.run_directory import is_run
from niwaki.workflow.subjects.external import is_external, split
from niwaki.workflow.subjects.subject import is_model, open_subject

__all__ = ["belongs_to_no_run", "open_model", "refuse_for_runs"]


def belongs_to_no_run(what: Any) -> bool:
    """Whether it is a model that no run has trained."""
    return isinstance(what, GenerativeModel) or (
        isinstance(what, str | Path) and not is_run(what) and (is_external(what) or is_model(what))
    )


def refuse_for_runs(what: Any, **given: Any) -> None:
    """Raises CallError for what only a model of no run takes: the recipe of a run says it all."""
    for name, value in given.items():
        if value is not None:
            where = what if isinstance(what, str | Path) else "the run"
            raise CallError(
                f"{name}={value!r} is for a model of no run; {where} has a recipe, which is changed by "
                "section.key=value"
            )


def open_model(
    what: Any,
    overrides: Overrides,
    *,
    data: Any,
    out: str | Path,
    plan: Any = None,
    weights: str | Path | None = None,
    n: int | None = None,
    seed: int | None = None,
    features: Sequence[str] | None = None,
    export: dict[str, Any] | None = None,
    reporter: Reporter,
) -> RunContext:
    """The run at `out` of a model of no run, on its data; arguments as of `niwaki.compress`.

    Raises CallError where no data are named, and for sections that such a model does not have.
    """
    if data is None:
        raise CallError(f"{_name(what)} belongs to no run; name the data that it answers to: data=digits …")
    options, rest = (
        ({}, parse_overrides(overrides)) if isinstance(what, GenerativeModel) else split(overrides)
    )
    _check_sections(rest)
    judged = [change for change in rest if change.section in ("data", "evaluate")]
    context = context_for(data, judged, reporter=reporter)
    options, spec = ({}, None) if isinstance(what, GenerativeModel) else answering(what, context, options)
    reporter.stage("model", _name(what))
    subject = open_subject(what, device="cpu", weights=weights, options=options, spec=spec)
    assert isinstance(subject.runner, GenerativeModel)
    cut_with_own(context, subject.runner)
    seed = seed or 0
    chosen: dict[str, Any] = {"seed": seed, **({} if n is None else {"n": n})}
    left: Any = [change for change in rest if change.section != "data"]
    return open_given(
        subject.runner,
        context,
        out,
        plan=plan,
        evaluate=chosen | ({} if features is None else {"features": tuple(features)}),
        export=export,
        seed=seed,
        overrides=left,
        reporter=reporter,
    )


def _name(what: Any) -> str:
    return what.name if isinstance(what, GenerativeModel) else str(what)


def _check_sections(overrides: Sequence[Override]) -> None:
    known = ("compress", "data", "evaluate", "export")
    for change in overrides:
        if change.section not in known:
            raise CallError(
                f"'{change}': a model of no run has the sections 'model', {', '.join(map(repr, known))} only"
            )

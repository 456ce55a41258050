"""What subjects answer to: the data that are named, or those of the runs that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from niwaki.core.errors import CallError
from niwaki.recipe import Overrides, load_recipe
from niwaki.workflow.context import EvaluationContext, context_for
from niwaki.workflow.reporter import Reporter
from niwaki.workflow.subjects.subject import home_of

__all__ = ["context_of"]


def context_of(
    subjects: Sequence[Any],
    data: Any,
    overrides: Overrides,
    reporter: Reporter,
    cache: Path | None = None,
) -> EvaluationContext:
    """The context of `data`, or of the run that the subjects belong to.

    Raises CallError where there are none, and where they differ.
    """
    if data is not None:
        return context_for(data, overrides, reporter=reporter, cache=cache)
    homes = [found for found in map(home_of, subjects) if found is not None]
    names = [getattr(s, "name", None) or str(s) for s in subjects]
    if not homes:
        who = f"{names[0]} belongs" if len(names) == 1 else f"{names[0]} and {names[1]} belong"
        raise CallError(
            f"{who} to no run; name the data with --data: a source (digits, folder:photos), a recipe, a run"
        )
    if len({load_recipe(path, overrides).data.model_dump_json() for path in homes}) > 1:
        raise CallError(
            f"{names[0]} and {names[1]} are of different data; name the one to judge by with --data"
        )
    return context_for(homes[0], overrides, reporter=reporter, cache=cache)

"""Fairness: what a model makes of each group, as a frame of fairlearn's."""

from __future__ import annotations

from typing import Any

from niwaki.api.progress import with_progress
from niwaki.api.sample import sample
from niwaki.core.contract import CallError
from niwaki.evaluation.fairness import fairness_frame
from niwaki.evaluation.judges.recognising import CROSS, Recogniser
from niwaki.workflow.context import context_for
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.subjects.subject import home_of

__all__ = ["frame"]


@with_progress
def frame(
    what: Any,
    by: str = "class",
    *,
    n: int = 1000,
    split: str = "test",
    data: Any = None,
    seed: int = 0,
    reporter: Reporter | None = None,
    **options: Any,
) -> Any:
    """A `fairlearn.metrics.MetricFrame` of n samples beside the real ones of a split.

    what:    a run, a model or a bundle
    by:      an attribute (`class`, another one), or several joined by `+`, whose meetings are the groups
    data:    whose attributes are recognised; default: the data of the run that `what` is of
    options: of `niwaki.sample`
    Samples and real ones are read by the same recogniser, so that its errors are the same on both.
    Raises CallError for an attribute that is not recognised, NiwakiError without fairlearn.
    """
    reporter = reporter or Quiet()
    where = data if data is not None else home_of(what)
    if where is None:
        raise CallError(f"{what} belongs to no run; say with data whose groups are looked at")
    context = context_for(where, reporter=reporter)
    recogniser = Recogniser(context.dataset, context.extractors)
    recogniser.value_names(by)  # refuses what is not recognised
    made = sample(what, n, seed=seed, reporter=reporter, **options)
    return fairness_frame(
        recogniser.of_split(split),
        recogniser.of_samples(made.x),
        {name: recogniser.names(name) for name in by.split(CROSS)},
    )

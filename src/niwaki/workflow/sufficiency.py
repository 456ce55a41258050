"""Whether the data are enough for a verdict: said before the work begins, in the recipe's own keys."""

from __future__ import annotations

from niwaki.evaluation.equivalence.margins import FEWEST_PAIRS, FEWEST_REAL, enough
from niwaki.workflow.context import EvaluationContext

__all__ = ["lacking", "tell_lacking"]


def lacking(context: EvaluationContext) -> str:
    """Why a verdict on samples cannot be reached, with what to change; empty where it can, and for data that
    are judged otherwise (texts)."""
    dataset, config = context.dataset, context.config
    if dataset.spec.x.is_tokens or (config.judges and "samples" not in config.judges):
        return ""
    parts = []
    test, n = len(dataset.test), context.n
    if enough(test, len(dataset.validation), n):
        return ""
    if test < FEWEST_REAL:
        total = sum(len(split) for split in (dataset.train, dataset.validation, dataset.test))
        needed = -(-FEWEST_REAL * total // max(test, 1))  # at the share that they have here
        parts.append(
            f"at least {FEWEST_REAL} test samples are needed, and there are {test} of {total:,} in all: give "
            f"{needed:,} or more samples, or raise the last of data.fractions"
        )
    if n < FEWEST_PAIRS:
        parts.append(
            f"at least {FEWEST_PAIRS} made samples are needed, and evaluate.n is {n}"
            + (" (as many as there are test samples)" if config.n is None or not config.n else "")
            + f": set evaluate.n={FEWEST_PAIRS} or more"
        )
    return "; ".join(parts)


def tell_lacking(context: EvaluationContext) -> None:
    """Tell the reporter, before hours are spent."""
    if why := lacking(context):
        context.reporter.note(f"the verdict of this run will be inconclusive: {why}")

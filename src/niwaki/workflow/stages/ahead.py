"""What the stages that are due will take, said before the first of them begins."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from niwaki.workflow.estimates import Expected, Timed, told
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.stages.stage import Stage
from niwaki.workflow.stages.train import fresh_model

__all__ = ["due_stages", "expected_parts", "tell_time"]


def due_stages(context: RunContext, stages: Sequence[Stage]) -> list[Stage]:
    """The first stage that does not hold, and those after it, which stand on it.

    Raises CallError where that stage refuses to work.
    """
    for at, stage in enumerate(stages):
        if stage.applies(context) and stage.due(context):
            return [later for later in stages[at:] if later.applies(context)]
    return []


def tell_time(context: RunContext, due: Sequence[Stage]) -> None:
    """Tell the reporter; nothing is timed where only quick stages are due, or nobody reads."""
    if any(not stage.quick for stage in due):
        context.reporter.ahead(lambda: _sentence(context, due))


def _sentence(context: RunContext, due: Sequence[Stage]) -> str:
    return told(expected_parts(context, due))


def expected_parts(context: RunContext, due: Sequence[Stage]) -> list[Expected]:
    """What the stages that are due will take, part by part; some steps and samples are timed for it."""
    timed = Timed(lambda: _model(context, due), context.dataset, context.device)
    parts: list[Expected] = []
    for stage in due:
        if stage.quick:
            continue
        try:
            parts += stage.expected(context, timed)
        except Exception:  # a courtesy must not cost the work; the stage itself says what is wrong
            parts.append(Expected(stage.title, None))
    return parts


def _model(context: RunContext, due: Sequence[Stage]) -> Any:
    """A model of its own: as it is before the training that is due, else a copy of the trained one."""
    if context.given is not None or not any(stage.name == "train" for stage in due):
        return copy.deepcopy(context.model)
    with torch.random.fork_rng():
        return fresh_model(context.recipe, context.dataset)

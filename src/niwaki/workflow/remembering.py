"""What a tuned model still knows of the data of the model that it began from: both are judged by those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError
from niwaki.core.store import jsonable
from niwaki.training.config import StageConfig, TrainConfig
from niwaki.training.weights import content_of, sources_of
from niwaki.workflow.comparing import compare_subjects
from niwaki.workflow.context import context_for
from niwaki.workflow.own_tokenizer import cut_with_own
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.run_directory import is_run
from niwaki.workflow.subjects.subject import Subject, open_subject

__all__ = ["remembered", "remembered_from"]


def base_of(config: TrainConfig) -> Path:
    """Where the model before the tuning lies: the run that `remember` names, else what `init_from` does.

    Raises CallError where neither is one model.
    """
    if isinstance(config.remember, str) and is_run(config.remember):
        return Path(config.remember)
    trainings: tuple[TrainConfig | StageConfig, ...] = (config, *config.stages)
    sources = [s for one in trainings for s in sources_of(one)]
    whole = {s.path for s in sources if not (s.prefix or s.part or s.only)}
    if len(whole) != 1:
        raise CallError(
            "train.remember compares with the model before: name its run, or let train.init_from be one "
            "whole model"
        )
    return whole.pop()


def remembered_from(config: TrainConfig | None) -> dict[str, Any]:
    """What the comparison depends on beside the tuned model; {} where none is asked for."""
    if config is None or config.remember is None:
        return {}
    base = base_of(config)
    return {"remember": {"by": jsonable(config.remember), "base": str(base), "weights": content_of(base)}}


def remembered(context: RunContext) -> dict[str, Any]:
    """What `niwaki.compare` says of the model before and the tuned one by the data of `train.remember`;
    `left_out` with the reason where they cannot be judged by it; {} where nothing is asked for."""
    config = context.recipe.train
    if config is None or config.remember is None:
        return {}
    try:
        before = open_subject(base_of(config))
        home = context_for(config.remember, reporter=context.reporter, cache=context.cache)
        after = Subject("run", context.run.path, context.model, context.run.path)
        for subject in (before, after):
            cut_with_own(home, subject.runner)
        return compare_subjects(home, (before, after))
    except CallError as error:
        context.reporter.note(f"what was remembered could not be judged: {error}")
        return {"left_out": str(error)}

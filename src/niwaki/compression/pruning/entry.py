"""`prune`: the step by itself, without a plan."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from niwaki.compression.pruning.channels import Recover
from niwaki.compression.pruning.config import PruneConfig
from niwaki.compression.pruning.step import carry_out
from niwaki.compression.steps import StepContext
from niwaki.core.contract import GenerativeModel

__all__ = ["prune"]


def prune(
    model: GenerativeModel,
    config: PruneConfig | None = None,
    *,
    split: Any = None,
    seed: int = 0,
    condition: Any = None,
    recover: Recover | None = None,
    **settings: Any,
) -> GenerativeModel:
    """A pruned copy of `model`, in eval mode; `model` stays as it is.

    config:    what goes, and how
    split:     the training split, a `niwaki.data.Split`; needed by what trains (`train`, `recover`), used by
               `taylor` where it is given
    condition: what samples are asked for; None is the classes in turn
    recover:   (model, round) → model, called after each round but the last, instead of `config.recover` steps
               of distillation
    settings:  fields of `PruneConfig`, instead of a config or on top of it
    Raises CallError for a combination that makes no sense or lacks data, NiwakiError where nothing could be
    pruned.

    >>> small = prune(model, ratio=0.5)  # doctest: +SKIP
    >>> sparse = prune(model, what="weights", ratio=0.9, ranking="lamp")  # doctest: +SKIP
    """
    given = (config or PruneConfig()).model_dump(exclude_defaults=True)
    config = PruneConfig.model_validate({**given, **settings})
    dataset = None if split is None else SimpleNamespace(train=split)
    context = StepContext(copy.deepcopy(model).eval(), dataset, seed, Path(), condition, lambda *_: None)
    return carry_out(model, config, context, recover).model

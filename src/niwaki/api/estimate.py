"""Estimate: what a run would take, before it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niwaki.api.progress import with_progress
from niwaki.api.run import whole_way
from niwaki.recipe import Overrides, Recipe
from niwaki.workflow.outlook import look_ahead
from niwaki.workflow.reporter import Reporter
from niwaki.workflow.stages.train import TrainStage

__all__ = ["estimate"]


@with_progress
def estimate(
    what: str | Path | Recipe | Mapping[str, Any],
    overrides: Overrides = (),
    *,
    out: str | Path | None = None,
    training: bool = False,
    price: float | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """What `run` (or, with `training`, `train`) of a recipe or a run would take from here on.

    price: of an hour of this machine
    `seconds` of all that can be told, by `parts`; `unknown`, whose time nobody can tell yet; `memory_bytes`,
    the most that was held while a few steps and samples were timed; `parameters`; `cost`, where there is a
    price; `sentence`. Nothing is written.
    """

    def stages() -> tuple[Any, ...]:
        return (TrainStage(),) if training else whole_way()

    return look_ahead(what, overrides, stages=stages, out=out, reporter=reporter).to_json(price)

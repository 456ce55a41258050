"""Trying one plan: it is carried out, and what it loses is measured. The same in the search's own process and
in a worker's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from niwaki.compression import CompressConfig, compress
from niwaki.compression.finished import drop_superseded
from niwaki.compression.plan import Compressed
from niwaki.core.contract import NiwakiError
from niwaki.core.store import jsonable
from niwaki.data.inputs import split_inputs
from niwaki.training import Interrupted
from niwaki.workflow.engine_choice import engine_beforehand
from niwaki.workflow.reasons import is_disk_full, reason, refuse_full_disk
from niwaki.workflow.reporter import counter
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.searching.rehearsal import Loss, Rehearsal

__all__ = ["Attempt", "Attempted", "attempt", "carried_out", "continuation"]


@dataclass(frozen=True)
class Attempt:
    """What is tried.

    plan:      as it is carried out; None leaves the model as it was
    directory: where its steps go
    n:         samples that a loss is measured on
    blocks:    whether they may be fewer, where blocks of them tell enough
    """

    plan: CompressConfig | None
    directory: Path
    n: int
    blocks: bool = False

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = jsonable({**vars(self), "directory": str(self.directory)})
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Attempt:
        plan = None if record["plan"] is None else CompressConfig.model_validate(record["plan"])
        return cls(plan, Path(record["directory"]), int(record["n"]), bool(record["blocks"]))


@dataclass(frozen=True)
class Attempted:
    """What came of it.

    losses:  by axis, in margins; empty where it failed
    each:    seconds of a step of its last training; 0 where it was not trained
    seconds: of all; judging: of measuring the losses
    drawn:   samples that were judged
    reason:  why it failed
    full:    why nothing else would fare better: the disk is full
    """

    losses: dict[str, Loss] = field(default_factory=dict)
    each: float = 0.0
    seconds: float = 0.0
    judging: float = 0.0
    drawn: int = 0
    reason: str = ""
    full: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "losses": {axis: vars(loss) for axis, loss in self.losses.items()}}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Attempted:
        losses = {axis: Loss.from_json(loss) for axis, loss in record["losses"].items()}
        return cls(**{**record, "losses": losses})


def continuation(plan: CompressConfig) -> int | None:
    """The step that more training goes on from: the last fine-tuning; None where there is none."""
    trained = [k for k, step in enumerate(plan.steps) if step.kind == "finetune"]
    return trained[-1] if trained else None


def attempt(run: RunContext, rehearsal: Rehearsal, asked: Attempt) -> Attempted:
    """Raises Interrupted. Whatever else goes wrong is the attempt's reason."""
    began = time.monotonic()
    try:
        model, each = run.model, 0.0
        if asked.plan is not None:
            made = carried_out(run, asked.plan, asked.directory, exports=False, reference=rehearsal.reference)
            model, each = made.model, _each(made)
            last = continuation(asked.plan)
            drop_superseded(asked.directory, asked.plan.steps, () if last is None else (last,))
        judging = time.monotonic()
        losses, drawn = rehearsal.losses_of(model, n=asked.n, blocks=asked.blocks)
    except Interrupted:
        raise
    except Exception as error:
        spent = time.monotonic() - began
        if is_disk_full(error):
            return Attempted(seconds=spent, full=_full(error))
        return Attempted(seconds=spent, reason=reason(error))
    now = time.monotonic()
    return Attempted(losses, each, now - began, now - judging, drawn)


def _full(error: Exception) -> str:
    try:
        refuse_full_disk(error)
    except NiwakiError as told:
        return str(told)
    return reason(error)


def carried_out(
    run: RunContext,
    plan: CompressConfig,
    directory: Path,
    *,
    exports: bool,
    reference: np.ndarray | None = None,
) -> Compressed:
    """A plan, of which finished steps are found again. Raises NiwakiError where a step fails.

    reference: samples of the model (`reference_samples`), where they are made already
    """
    needed = any(step.needs_extractor for step in plan.steps)
    return compress(
        run.model,
        run.dataset,
        plan,
        workdir=directory,
        seed=run.recipe.seed,
        condition=split_inputs(run.model, run.dataset.train),
        engine=engine_beforehand(run.recipe.export),
        extractor=run.extractors[0] if needed else None,
        progress=counter(run.reporter),
        bundle=exports,
        reference=reference,
        forewarn=False,  # what leaves the fast path is in the measured costs
    )


def _each(made: Compressed) -> float:
    """Seconds of a step of the last fine-tuning; 0 where there was none."""
    taught = [r for r in made.records if r.kind == "finetune" and not r.idle]
    return taught[-1].seconds / max(taught[-1].settings["steps"], 1) if taught else 0.0

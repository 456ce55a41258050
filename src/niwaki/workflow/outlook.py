"""Before a run: what it will take in time, memory and money; and a training made as long as there is time."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from niwaki.core.contract import CallError
from niwaki.recipe import Overrides, Recipe, load_recipe
from niwaki.training.changed import with_lengths
from niwaki.workflow.estimates import Expected, told
from niwaki.workflow.pace import about_text
from niwaki.workflow.reporter import Reporter
from niwaki.workflow.run_context import RunContext, open_run
from niwaki.workflow.run_directory import RunDirectory, is_run
from niwaki.workflow.stages.ahead import due_stages, expected_parts
from niwaki.workflow.stages.stage import Stage
from niwaki.workflow.stages.train import TrainStage, fresh_model

__all__ = ["Outlook", "fit_into", "look_ahead"]

_LEAST = 0.1
"""Share of the time that has to be left for training."""

What = str | Path | Recipe | Mapping[str, Any]
Stages = Callable[[], Sequence[Stage]]


@dataclass(frozen=True)
class Outlook:
    """What is known before a run.

    parts:      of the work, with their seconds
    memory:     bytes that this process held at most while steps and samples were timed; on a GPU, of the GPU
    parameters: of the model; None where nothing is due
    """

    parts: tuple[Expected, ...]
    memory: int
    parameters: int | None

    @property
    def seconds(self) -> float:
        """Of all that can be told."""
        return sum(part.seconds or 0.0 for part in self.parts)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Parts whose time nobody can tell yet."""
        missing = [part.what for part in self.parts if part.seconds is None]
        return tuple(dict.fromkeys([*missing, *(one for part in self.parts for one in part.besides)]))

    def to_json(self, price: float | None = None) -> dict[str, Any]:
        """price: of an hour of this machine, in whatever currency"""
        return {
            "seconds": self.seconds,
            "parts": [{"what": p.what, "seconds": p.seconds, "before": p.before} for p in self.parts],
            "unknown": list(self.unknown),
            "memory_bytes": self.memory,
            "parameters": self.parameters,
            "cost": None if price is None else price * self.seconds / 3600.0,
            "sentence": told(self.parts),
        }


def look_ahead(
    what: What,
    overrides: Overrides = (),
    *,
    stages: Stages,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> Outlook:
    """What the stages of a recipe or a run would take from here on. Nothing is written: of each kind of work
    a few steps are carried out and thrown away."""
    with _somewhere(what, overrides, out, reporter) as context:
        due = due_stages(context, stages())
        context.reporter.stage("timing", "a few steps and samples")
        parts = tuple(part for part in expected_parts(context, due) if part.seconds != 0.0)
        trained = any(isinstance(stage, TrainStage) for stage in due)
        return Outlook(parts, _peak(), _parameters(context) if trained else None)


def fit_into(
    seconds: float,
    what: What,
    overrides: Overrides = (),
    *,
    stages: Stages,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> tuple[What, Overrides]:
    """The call with as many training steps as the time allows, all stages of the training in proportion; of a
    run whose training has begun it stays as it is.

    Raises CallError where the rest of the work leaves less than a tenth of the time, or nothing can be timed.
    """
    place = _existing(what, overrides, out)
    if place is not None and RunDirectory.open(place).stage("train")["status"] != "missing":
        if reporter is not None:
            reporter.note(f"{place} goes on with the steps that it began with; --time is for new trainings")
        return what, overrides
    recipe = load_recipe(what, overrides)
    if recipe.train is None:
        raise CallError("the recipe trains nothing; --time is for trainings")
    seen = look_ahead(recipe, stages=stages, reporter=reporter)
    mine = [part.seconds for part in seen.parts if part.what == TrainStage.title]
    if not mine or mine[0] is None:
        raise CallError("steps of this training cannot be timed beforehand; set train.steps")
    rest = seen.seconds - mine[0]
    left = seconds - rest
    if left < _LEAST * seconds:
        raise CallError(
            f"what comes after the training takes {about_text(rest)} of the {about_text(seconds)} already; "
            "give more time, or train alone"
        )
    factor = left / mine[0]
    train = with_lengths(recipe.train, lambda _, steps: max(1, round(steps * factor)))
    if reporter is not None:
        reporter.note(f"{train.total_steps:,} steps of training fit into {about_text(seconds)}")
    return recipe.model_copy(update={"train": train}), ()


def _existing(what: What, overrides: Overrides, out: str | Path | None) -> Path | None:
    """The run directory that a call would go on with."""
    if isinstance(what, str | Path) and is_run(what) and out is None:
        return Path(what)
    place = Path(out) if out is not None else Path("runs") / load_recipe(what, overrides).name
    return place if is_run(place) else None


@contextmanager
def _somewhere(
    what: What, overrides: Overrides, out: str | Path | None, reporter: Reporter | None
) -> Iterator[RunContext]:
    """The run, where there is one; else one in a place that is cleared away."""
    if _existing(what, overrides, out):
        yield open_run(what, overrides, out, reporter, encoders=True)
        return
    with tempfile.TemporaryDirectory(prefix="niwaki-") as place:
        yield open_run(load_recipe(what, overrides), (), Path(place) / "run", reporter, encoders=True)


def _parameters(context: RunContext) -> int:
    with torch.random.fork_rng():
        return sum(p.numel() for p in fresh_model(context.recipe, context.dataset).parameters())


def _peak() -> int:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return psutil.Process().memory_info().rss
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes everywhere else
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

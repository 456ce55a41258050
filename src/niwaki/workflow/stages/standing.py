"""What stands in a run directory before a training: nothing, a stopped training, or a finished one.

A training is never written over without `fresh`: neither a finished one, nor one that was stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from niwaki.core.differences import differences
from niwaki.core.errors import CallError
from niwaki.recipe import Recipe
from niwaki.training.checkpoint import Checkpoint, latest, list_checkpoints
from niwaki.training.resuming import Changes, changes, joined, may_go_on
from niwaki.workflow.run_directory import RunDirectory

__all__ = ["Way", "has_checkpoints", "way_of"]

Way = Literal["anew", "on"]
"""How a training begins: from the first step, or from the newest checkpoint."""


def has_checkpoints(run: RunDirectory) -> bool:
    """Whether a training left anything to go on from."""
    return bool(list_checkpoints(run.path / "checkpoints"))


def way_of(
    run: RunDirectory, recipe: Recipe, inputs: Mapping[str, Any], *, resume: bool | None, fresh: bool
) -> Way:
    """How to train so that nothing that stands there is lost unasked.

    inputs: of the train stage, as the recipe has them now
    resume: whether going on was asked for; None goes on with a training of this very recipe
    fresh:  begin again, whatever is there
    Raises CallError that names what changed, and how to go on, begin again or train elsewhere.
    """
    assert recipe.train is not None
    if fresh and resume:
        raise CallError("--resume goes on with a training and --fresh begins it again; choose one of them")
    if fresh:
        return "anew"
    stage = run.stage("train")
    finished = stage["status"] == "done" and (run.model / "model.safetensors").is_file()
    if not has_checkpoints(run):
        if resume:
            raise CallError(f"{run.path} holds no checkpoint to resume from; leave --resume out")
        if finished and (other := differences(stage.get("made_from", {}), inputs)):
            raise CallError(_finished(run.path, joined(other)))
        return "anew"
    checkpoint, _ = latest(run.path / "checkpoints")
    assert checkpoint is not None
    about = {key: value for key, value in inputs.items() if key not in ("seed", "train")}
    found = changes(checkpoint.record, recipe.train, recipe.seed, about)
    if stage.get("made_from") and "about" not in checkpoint.record["identity"]:
        # An older niwaki kept the data and the model's settings with the stage alone.
        made = {k: v for k, v in stage["made_from"].items() if k in about}
        older = differences(made, {k: about[k] for k in made})
        found = Changes((*older, *found.refused), None if older else found.longer)
    if found.refused and resume:
        may_go_on(found, run.path)
    if found.refused:
        said = joined(found.refused)
        raise CallError(_finished(run.path, said) if finished else _stopped(run.path, checkpoint, said))
    if found.longer and not resume:
        raise CallError(_longer(run.path, checkpoint, *found.longer, finished))
    if resume is False and not finished and stage["status"] == "started":
        raise CallError(
            f"{run.path} holds a stopped training; add --resume to go on or --fresh to begin again"
        )
    return "on"


def _finished(path: Path, said: str) -> str:
    return (
        f"{path} holds a finished training, and {said}; change it back, choose another --out, or add "
        "--fresh to train again, which gives up the trained model that is there"
    )


def _stopped(path: Path, checkpoint: Checkpoint, said: str) -> str:
    return (
        f"{path} holds a training that was stopped at step {checkpoint.step}, and {said}; change it back and "
        "add --resume, choose another --out, or add --fresh to begin again, which gives it up"
    )


def _longer(path: Path, checkpoint: Checkpoint, then: int, now: int, finished: bool) -> str:
    state = "finished training" if finished else f"training that was stopped at step {checkpoint.step}"
    return (
        f"{path} holds a {state} of {then} steps, and the recipe now asks for {now}; add --resume to train "
        "on, --fresh to begin again, which gives up what is there, or choose another --out"
    )

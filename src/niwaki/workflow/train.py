"""Train: from the recipe to the weights in `model/`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from niwaki.core.contract import CallError, GenerativeModel
from niwaki.data import Dataset
from niwaki.features import Encoder, build_encoder
from niwaki.features.selfsupervised import probe_encoder
from niwaki.models.io import save_model
from niwaki.models.registry import build
from niwaki.recipe import Recipe
from niwaki.training import fit, init_from_hashes
from niwaki.training.config import identity
from niwaki.workflow.reporter import Reporter, counter
from niwaki.workflow.rundir import RunDirectory
from niwaki.workflow.session import Session, hash_directory, open_session

__all__ = ["resumable", "train", "train_inputs", "train_leg"]

# These change where training runs, not what is learned.
_NO_MATTER = ("device", "devices")


def train(
    what: str | Path | Recipe,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    resume: bool = False,
    fresh: bool = False,
    reporter: Reporter | None = None,
) -> RunDirectory:
    """Train the model (or the encoder) of a recipe or of a run and save it into the run directory.

    resume: go on from the last checkpoint of a training that was stopped
    fresh:  begin again, whatever is there
    Raises CallError where a stopped training is in the way and neither was asked for, Interrupted on Ctrl-C.
    """
    session = open_session(what, overrides, out, reporter, encoders=True)
    run = session.run
    with run.hold():
        stopped = run.leg("train")["status"] == "started" and _checkpoints(run)
        if resume and not _checkpoints(run):
            raise CallError(f"{run.path} holds no checkpoint to resume from; leave --resume out")
        if stopped and not resume and not fresh:
            raise CallError(
                f"{run.path} holds a stopped training; add --resume to go on or --fresh to begin again"
            )
        train_leg(session, resume=resume, fresh=fresh)
    return run


def train_inputs(session: Session) -> dict[str, Any]:
    """All that the weights are made from."""
    recipe = session.recipe
    sources = init_from_hashes(recipe.train)
    return {
        "seed": recipe.seed,
        "data": {**recipe.data.model_dump(mode="json", exclude={"path"}), "content": session.fingerprint()},
        "model": recipe.model,
        "train": {k: v for k, v in identity(recipe.train).items() if k not in _NO_MATTER},
        **({"init_from": sources} if sources else {}),
    }


def train_leg(session: Session, *, resume: bool = False, fresh: bool = False) -> bool:
    """Train if the run's weights are missing or made from something else. Returns whether there was work."""
    run, recipe = session.run, session.recipe
    inputs = train_inputs(session)
    if run.holds("train", inputs) and not fresh:
        return False
    dataset = session.dataset
    session.reporter.stage("train", f"{recipe.model['name']} on {dataset.name}")
    if not resume:
        shutil.rmtree(run.path / "checkpoints", ignore_errors=True)
        (run.path / "metrics.jsonl").unlink(missing_ok=True)
    with run.working("train", inputs, (run.model,)) as record:
        torch.manual_seed(recipe.seed)
        model = _fresh(session, dataset)
        result = fit(
            model,
            dataset.train,
            recipe.train,
            seed=recipe.seed,
            directory=run.path,
            resume=resume,
            progress=counter(session.reporter),
            validation=dataset.validation,
        )
        for note in result.notes:
            session.reporter.note(note)
        save_model(model, run.model)
        record |= {
            "result": hash_directory(run.model),
            "steps": result.steps,
            "training_seconds": result.seconds,
            "samples_per_second": result.samples_per_second,
            "parameters": sum(p.numel() for p in model.parameters()),
            "last": result.last,
            **({"best_step": result.best_step, "best_loss": result.best_loss} if result.best_step else {}),
        }
        if isinstance(model, Encoder):
            session.reporter.stage("probe", "a linear classifier and 20 neighbours on its features")
            record["probe"] = probe_encoder(model, dataset)
    return True


def _fresh(session: Session, dataset: Dataset) -> GenerativeModel | Encoder:
    recipe = session.recipe
    make = build_encoder if recipe.encodes else build
    return make(recipe.model["name"], recipe.model_settings, dataset.spec)


def resumable(session: Session) -> bool:
    """Whether a stopped training of exactly this recipe waits in the run directory."""
    run = session.run
    return (
        run.leg("train")["status"] == "started"
        and _checkpoints(run)
        and not run.changed("train", train_inputs(session))
    )


def _checkpoints(run: RunDirectory) -> bool:
    return any((run.path / "checkpoints").glob("step-*"))

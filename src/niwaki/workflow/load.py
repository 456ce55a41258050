"""Whatever lies at a path, ready to sample from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError, GenerativeModel
from niwaki.models.io import load_model
from niwaki.workflow.outside import is_outside, load_outside
from niwaki.workflow.rundir import RunDirectory, is_run
from niwaki_runtime import Bundle
from niwaki_runtime import load as load_bundle

__all__ = ["is_bundle", "is_model", "load"]


def is_bundle(path: str | Path) -> bool:
    """A `.niwaki` file, or a directory with a manifest."""
    path = Path(path)
    return (path.is_file() and path.suffix == ".niwaki") or (path / "manifest.json").is_file()


def is_model(path: str | Path) -> bool:
    """A directory that `save_model` wrote, a pipeline's folder, or a factory."""
    return (Path(path) / "model.json").is_file() or is_outside(path)


def load(
    path: str | Path, *, engine: str = "auto", precision: str = "fast", **options: Any
) -> GenerativeModel | Bundle:
    """A run's trained model, a saved model, a diffusers pipeline's folder, what a factory
    (`package.module:function`) makes, or a bundle on an engine; each has `spec`, `conditions` and `sample`.

    engine, precision, options: of a bundle (`niwaki_runtime.load`)
    Raises CallError where `path` is none of these, NiwakiError where it is broken or not trained yet.
    """
    path = Path(path)
    if is_bundle(path):
        return load_bundle(path, engine=engine, precision=precision, **options)
    if engine != "auto":
        raise CallError(
            f"{path} is no bundle, so it runs on no engine; export it first, or leave the engine out"
        )
    if is_run(path):
        run = RunDirectory.open(path)
        if not is_model(run.model):
            raise CallError(f"{path} holds no trained model yet; run `niwaki train {path}` first")
        return load_model(run.model)
    if is_outside(path):
        return load_outside(path)
    if is_model(path):
        return load_model(path)
    if not path.exists():
        raise CallError(f"{path} does not exist; give a run directory, a model directory or a bundle")
    raise CallError(f"{path} is neither a run directory, a model directory, a pipeline's folder nor a bundle")

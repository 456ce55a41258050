"""Evaluate: what a run's model, or a bundle on its engine, can do against the test split."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from niwaki.contract import CallError, GenerativeModel, NiwakiError
from niwaki.data import cache_directory
from niwaki.evaluation import evaluate as judge
from niwaki.recipe import Recipe, load_recipe
from niwaki.store import jsonable, read_json, write_bytes, write_json
from niwaki.training.hardware import choose_device
from niwaki.workflow.load import is_bundle
from niwaki.workflow.own import evaluate_model
from niwaki.workflow.reporter import Reporter, counter
from niwaki.workflow.rundir import is_run
from niwaki.workflow.session import Session, open_session
from niwaki_runtime import load as load_bundle

__all__ = [
    "evaluate",
    "evaluate_inputs",
    "evaluate_leg",
    "extractor_records",
    "read_samples",
    "write_samples",
]


def evaluate(
    what: str | Path | Recipe | GenerativeModel,
    overrides: Sequence[str] = (),
    *,
    recipe: str | Path | None = None,
    engine: str = "auto",
    reporter: Reporter | None = None,
    **own: Any,
) -> dict[str, Any]:
    """The evaluation of a run's trained model (kept in its `evaluation.json`), or of a bundle on `engine`.

    A model that belongs to no run is evaluated as `evaluate_model` says, which takes `own`: `data`, `n` …

    recipe: where a bundle's data and features are named; default: the run directory that the bundle lies in
    Raises CallError for a bundle without a recipe, NiwakiError for a run without a trained model.
    """
    if isinstance(what, GenerativeModel):
        if "data" not in own:
            raise CallError("to evaluate a model, name the data that it answers to: data=…")
        return evaluate_model(what, reporter=reporter, **own)
    if not isinstance(what, Recipe) and is_bundle(what):
        return _evaluate_bundle(Path(what), overrides, recipe, engine, reporter)
    session = open_session(what, overrides, None, reporter)
    with session.run.hold():
        evaluate_leg(session)
    return dict(read_json(session.run.evaluation))


def evaluate_inputs(session: Session) -> dict[str, Any]:
    """All that the evaluation depends on."""
    return {
        "model": session.run.result("train"),
        "data": session.fingerprint(),
        "evaluate": session.recipe.evaluate.model_dump(mode="json"),
        "seed": session.recipe.seed,
    }


def evaluate_leg(session: Session) -> bool:
    """Judge the trained model if that is not done yet. Returns whether there was work."""
    run = session.run
    inputs = evaluate_inputs(session)
    if run.holds("evaluate", inputs):
        return False
    model, dataset, extractors, n = session.model, session.dataset, session.extractors, session.pairs
    with run.working("evaluate", inputs, (run.evaluation, run.samples)) as record:
        session.reporter.stage("evaluate", f"{n:,} samples of the trained model")
        asked = session.condition(model.conditions, n)
        model.to(choose_device(session.recipe.train.device))
        # in float32: TF32 would put the GPU's rounding into the pairs that damage is measured on
        with torch.backends.cudnn.flags(allow_tf32=False):
            made = model.sample(n, seed=session.seed, condition=asked, progress=counter(session.reporter))
        model.cpu()
        before = made.float().cpu().numpy()
        labels = session.labels(n) if model.conditions else None
        write_samples(run.samples, before=before, labels=labels)
        result = jsonable(judge(before, labels, dataset, extractors, seed=session.seed))
        write_json(
            run.evaluation,
            {"n": n, "seed": session.seed, "extractors": extractor_records(extractors), "trained": result},
        )
        record["result"] = record["inputs"]
    return True


def _evaluate_bundle(
    path: Path, overrides: Sequence[str], recipe: str | Path | None, engine: str, reporter: Reporter | None
) -> dict[str, Any]:
    if recipe is None and not is_run(path.parent):
        raise CallError(f"{path} lies in no run directory; name the recipe of its data with --recipe")
    source = path.parent if recipe is None else Path(recipe)
    with tempfile.TemporaryDirectory(prefix="niwaki-") as temporary:  # judging a bundle changes no run
        session = open_session(load_recipe(source, overrides), (), temporary, reporter)
        session.cache = source / "cache" if is_run(source) else cache_directory() / "features"
        return _judge_bundle(session, path, engine)


def _judge_bundle(session: Session, path: Path, engine: str) -> dict[str, Any]:
    bundle = load_bundle(path, engine=engine)
    if tuple(bundle.spec.shape) != tuple(session.dataset.spec.shape):
        raise CallError(
            f"{path} makes samples of shape {tuple(bundle.spec.shape)}, the data of "
            f"'{session.recipe.data.source}' have {tuple(session.dataset.spec.shape)}; name another --recipe"
        )
    extractors, n = session.extractors, session.pairs
    session.reporter.stage("evaluate", f"{n:,} samples of the bundle on {bundle.engine}")
    samples = bundle.sample(
        n,
        seed=session.seed,
        condition=session.condition(dict(bundle.conditions), n),
        progress=counter(session.reporter),
    )
    labels = session.labels(n) if bundle.conditions else None
    result = judge(samples, labels, session.dataset, extractors, seed=session.seed)
    return {
        "n": n,
        "seed": session.seed,
        "engine": bundle.engine,
        "extractors": extractor_records(extractors),
        "bundle": jsonable(result),
    }


def extractor_records(extractors: Sequence[Any]) -> list[dict[str, Any]]:
    """What looked at the samples: name, fingerprint, width, and a classifier's accuracy."""
    records = []
    for e in extractors:
        record = {"name": e.name, "fingerprint": e.fingerprint, "dim": e.dim}
        if hasattr(e, "accuracy"):
            record["accuracy"] = e.accuracy
        records.append(record)
    return records


def write_samples(path: Path, **arrays: np.ndarray | None) -> None:
    """`samples.npz`: `before` and `after` `(n, *shape)` float32 of the same seeds, `labels` `(n,)`, and of
    each sample after the `nearest` training sample."""
    file = io.BytesIO()
    kept: dict[str, Any] = {k: v for k, v in arrays.items() if v is not None}
    np.savez_compressed(file, **kept)
    write_bytes(path, file.getvalue())


def read_samples(path: Path) -> dict[str, np.ndarray]:
    """The arrays of `samples.npz`. Raises NiwakiError where the file is broken."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {k: file[k] for k in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise NiwakiError(f"{path} cannot be read ({error}); delete it and run again") from error

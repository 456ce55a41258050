"""Export: bundles that were checked against torch, and figures taken beside the model that they replace."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.core.store import read_json, write_json
from niwaki.deployment import bundle_bytes, export_graphs, package, parity
from niwaki.recipe import Recipe
from niwaki.workflow.load import is_model, load
from niwaki.workflow.measure import measure_all
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.session import Session, hash_directory, open_session

__all__ = ["export", "export_inputs", "export_leg"]


def export(
    what: str | Path | Recipe | GenerativeModel,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write a bundle: `bundle` (its path), `bytes`, `parity` (largest difference from torch by engine),
    `measured`.

    A run's bundle is that of its compressed model where it has one, and is measured; a model (or a model
    directory) is exported as it is to `out` (default `<name>.niwaki`).
    Raises NiwakiError where a graph cannot be exported or an engine does not compute what torch does.
    """
    if isinstance(what, GenerativeModel) or (isinstance(what, str | Path) and is_model(what)):
        model = what if isinstance(what, GenerativeModel) else _model(what)
        (reporter or Quiet()).stage("export", model.name)
        path = write_bundle(model, Path(out or f"{model.name}.niwaki"))
        return {"bundle": path, "bytes": bundle_bytes(path), "parity": check(model, path)}
    session = open_session(what, overrides, None, reporter)
    with session.run.hold():
        export_leg(session)
    found = dict(session.run.leg("export"))
    return {
        "bundle": session.run.bundle,
        "bytes": bundle_bytes(session.run.bundle),
        "parity": found["parity"],
        "measured": read_json(session.run.compression)["measured"],
    }


def _model(path: str | Path) -> GenerativeModel:
    model = load(path)
    assert isinstance(model, GenerativeModel)  # a directory of a model is no bundle
    return model


def export_inputs(session: Session) -> dict[str, Any]:
    """All that the bundle and its figures depend on."""
    return {
        "model": session.run.result("train"),
        "compressed": session.run.result("compress") if session.recipe.compress else None,
        "export": session.recipe.export.model_dump(mode="json"),
        "name": session.recipe.name,
    }


def export_leg(session: Session) -> bool:
    """Write and measure the run's bundles if that is not done yet. Returns whether there was work."""
    run, config = session.run, session.recipe.export
    inputs = export_inputs(session)
    if run.holds("export", inputs):
        return False
    with run.working("export", inputs, (run.bundle, run.original_bundle, run.compression)) as record:
        session.reporter.stage("export", f"{run.bundle.name} on {config.engine}")
        write_bundle(session.model, run.original_bundle, name=f"{session.recipe.name}-float32")
        exact = check(session.model, run.original_bundle, must_pass=True)
        if session.recipe.compress is None:
            shutil.copyfile(run.original_bundle, run.bundle)
        else:
            made = run.path / str(run.leg("compress").get("bundle", ""))
            if not made.is_file():
                raise NiwakiError(
                    f"{run.path} holds no compressed bundle; run `niwaki compress {run.path}` first"
                )
            shutil.copyfile(made, run.bundle)
        session.reporter.stage(
            "measure", f"batches {', '.join(map(str, config.batches))}, {config.threads} threads"
        )
        measured = measure_all(session)
        known = read_json(run.compression) if run.compression.exists() else {"steps": []}
        write_json(run.compression, {**known, "measured": measured})
        record["parity"] = exact
        record["result"] = hash_directory(run.bundle)
    return True


def write_bundle(model: GenerativeModel, out: Path, name: str | None = None) -> Path:
    """The float bundle of a model; every graph is checked in every engine on the way."""
    with tempfile.TemporaryDirectory(prefix="niwaki-") as temporary:
        return package(model, export_graphs(model, Path(temporary)), out, name=name)


def check(model: GenerativeModel, bundle: Path, *, must_pass: bool = False) -> dict[str, float]:
    """Largest difference of a whole sampling run from torch's, by engine (`precision="exact"`).

    Raises NiwakiError for a float bundle that does not compute what torch does.
    """
    found = parity(model, bundle)
    if must_pass and not found["passed"]:
        raise NiwakiError(
            f"the exported bundle's samples differ from torch's by {found['exact']:.2g}, more than "
            f"{found['tolerance']:.0g}; please report the model"
        )
    return {engine: by["exact"]["sample"] for engine, by in found["engines"].items()}

"""Export: a bundle of a run, or of a model as it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niwaki.api.progress import with_progress
from niwaki.core.contract import CallError, GenerativeModel
from niwaki.deployment import bundle_bytes
from niwaki.recipe import Overrides, Recipe
from niwaki.report.records import ExportRecord
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.run_context import open_run
from niwaki.workflow.run_directory import is_run
from niwaki.workflow.stages.export import ExportStage, check, write_bundle
from niwaki.workflow.stages.train import as_trained
from niwaki.workflow.subjects.subject import is_model, open_subject

__all__ = ["export"]


@with_progress
def export(
    what: str | Path | Recipe | Mapping[str, Any] | GenerativeModel,
    overrides: Overrides = (),
    *,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write a bundle: `bundle` (its path), `bytes`, `parity` (largest difference from torch by engine),
    `measured`.

    weights: a safetensors file with a factory's weights; "random" for those that it draws by chance
    A run's bundle is that of its compressed model where it has one, and is measured; a model (or a model
    directory) is exported as it is to `out` (default `<name>.niwaki`).
    Raises NiwakiError where a graph cannot be exported or an engine does not compute what torch does.
    """
    if isinstance(what, GenerativeModel) or (
        isinstance(what, str | Path) and not is_run(what) and is_model(what)
    ):
        model = open_subject(what, device="cpu", weights=weights).runner
        assert isinstance(model, GenerativeModel)
        (reporter or Quiet()).stage("export", model.name)
        path = write_bundle(model, Path(out or f"{model.name}.niwaki"))
        return {"bundle": path, "bytes": bundle_bytes(path), "parity": check(model, path)}
    if weights is not None:
        raise CallError(f"--weights is for package.module:function, and {what} is none")
    context = open_run(what, overrides, None, reporter)
    with context.run.hold():
        as_trained(context)
        ExportStage().run(context)
    record = ExportRecord.read(context.run.path) or ExportRecord()
    return {
        "bundle": context.run.bundle,
        "bytes": bundle_bytes(context.run.bundle),
        "programs": record.programs,
        "parity": record.parity,
        "measured": record.measured,
    }

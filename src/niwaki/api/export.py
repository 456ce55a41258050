"""Export: a bundle of a run, or of a model as it is, and what a target makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niwaki.api.progress import with_progress
from niwaki.core.contract import CallError, GenerativeModel
from niwaki.deployment import bundle_bytes
from niwaki.deployment.targets import TARGETS, with_defaults
from niwaki.recipe import Overrides, Recipe
from niwaki.report.records import ExportRecord
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.run_context import open_run
from niwaki.workflow.run_directory import is_run
from niwaki.workflow.stages.export import ExportStage, check, write_bundle
from niwaki.workflow.stages.train import as_trained
from niwaki.workflow.subjects.subject import is_bundle, is_model, open_subject
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["export"]


@with_progress
def export(
    what: str | Path | Recipe | Mapping[str, Any] | GenerativeModel,
    overrides: Overrides = (),
    *,
    out: str | Path | None = None,
    target: str = "bundle",
    options: Mapping[str, Any] | None = None,
    weights: str | Path | None = None,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Write a bundle, or what a target makes of one: `bundle` (its path), `bytes`, `parity` (largest
    difference from torch by engine), `measured`, and what the target says.

    target:  a form of bundles by name (`niwaki.deployment.targets`); "bundle" is the bundle itself
    options: of the target
    weights: a safetensors file with a factory's weights; "random" for those that it draws by chance
    A run's bundle is that of its compressed model where it has one, and is measured; a model (or a model
    directory) is exported as it is; a bundle is given to the target. They are written to `out` (default: the
    bundle's name and the target's suffix, beside the bundle; of a model, here).
    Raises CallError for an unknown target or option, NiwakiError where a graph cannot be exported, an engine
    does not compute what torch does, or the target cannot carry the bundle.
    """
    form = TARGETS[target]()
    chosen = with_defaults(form, options or {})

    def written(bundle: Path, name: Path) -> dict[str, Any]:
        place = Path(out) if out is not None else form.default_out(name)
        (reporter or Quiet()).stage("target", f"{target}: {place}")
        return form.write(bundle, place, **chosen)

    if isinstance(what, GenerativeModel) or (
        isinstance(what, str | Path) and not is_run(what) and is_model(what)
    ):
        model = open_subject(what, device="cpu", weights=weights).runner
        assert isinstance(model, GenerativeModel)
        (reporter or Quiet()).stage("export", model.name)
        with scratch_directory() as directory:
            path = write_bundle(model, directory / f"{model.name}.niwaki")
            found = {"bytes": bundle_bytes(path), "parity": check(model, path)}
            return {**found, **written(path, Path(path.name))}
    if weights is not None:
        raise CallError(f"--weights is for package.module:function, and {what} is none")
    if isinstance(what, str | Path) and is_bundle(what):
        if overrides:
            raise CallError(f"{what} is a bundle and has no recipe: there is nothing to set")
        return {"bundle": Path(what), "bytes": bundle_bytes(what), **written(Path(what), Path(what))}
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
        **written(context.run.bundle, context.run.bundle),
    }

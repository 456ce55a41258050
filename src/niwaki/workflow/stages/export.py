"""Export: bundles that were checked against torch, and figures taken beside the model that they replace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.core.store import copy_file
from niwaki.data import Split
from niwaki.data.inputs import example_inputs
from niwaki.deployment import export_graphs, package, parity
from niwaki.deployment.timing import seconds_of_rounds
from niwaki.report.records import ExportRecord
from niwaki.workflow.engine_choice import engine_beforehand
from niwaki.workflow.estimates import Expected, Timed
from niwaki.workflow.run_context import RunContext, hash_directory
from niwaki.workflow.stages.measure import measure_all
from niwaki.workflow.stages.stage import Stage
from niwaki_runtime.unfinished import scratch_directory

__all__ = ["ExportStage", "check", "write_bundle"]


class ExportStage(Stage):
    """The float bundle of the trained model, the bundle that ships, and figures of both beside torch."""

    name = "export"
    title = "export"
    settings = ("export",)

    def inputs(self, context: RunContext) -> dict[str, Any]:
        run, recipe = context.run, context.recipe
        return {
            "model": run.result("train"),
            "compressed": run.result("compress") if recipe.compress else None,
            "export": recipe.export.model_dump(mode="json"),
            "name": recipe.name,
        }

    def time(self, context: RunContext, timed: Timed) -> Sequence[Expected]:
        config = context.recipe.export
        ways = 4 if config.torch_compile else 3
        seconds = sum(
            seconds_of_rounds([timed.calls(n)] * ways, rounds=config.repeats) for n in config.batches
        )
        return (Expected("timing at most", seconds, besides=("export",)),)

    def work(self, context: RunContext, state: dict[str, Any]) -> None:
        run, config, model = context.run, context.recipe.export, context.model
        split = context.dataset.test
        made = None if context.recipe.compress is None else _compressed(context)
        context.reporter.stage("export", f"{run.bundle.name} on {engine_beforehand(config)}")
        write_bundle(model, run.original_bundle, name=f"{context.recipe.name}-float32", split=split)
        exact = check(model, run.original_bundle, must_pass=True, split=split)
        copy_file(made or run.original_bundle, run.bundle)
        batches = ", ".join(map(str, config.batches))
        context.reporter.stage("measure", f"batches {batches}, {config.threads} threads")
        ExportRecord(
            bundle=run.bundle.name,
            programs=list(model.shipped_programs()),
            parity=exact,
            measured=measure_all(context),
        ).write(run.path)
        state |= {
            "parity": exact,
            "outputs": (run.bundle, run.original_bundle, run.path / ExportRecord.file),
            "result": hash_directory(run.bundle),
        }


def _compressed(context: RunContext) -> Path:
    """The bundle of the run's plan. Raises NiwakiError where there is none yet."""
    run = context.run
    made = run.path / str(run.stage("compress").get("bundle", ""))
    if not made.is_file():
        raise NiwakiError(
            f"the compression plan of {run.path} was not carried out yet: run `niwaki compress {run.path}` "
            f"first, or export {run.model}, the trained model as it is"
        )
    return made


def write_bundle(
    model: GenerativeModel, out: Path, name: str | None = None, split: Split | None = None
) -> Path:
    """The float bundle of a model; every graph is checked in every engine on the way.

    split: rows of which travel as examples where programs cannot be tried without
    """
    examples = None if split is None else example_inputs(model, split)
    with scratch_directory() as temporary:
        return package(model, export_graphs(model, temporary), out, name=name, examples=examples)


def check(
    model: GenerativeModel, bundle: Path, *, must_pass: bool = False, split: Split | None = None
) -> dict[str, float]:
    """Largest difference of a whole sampling run from torch's, by engine (`precision="exact"`).

    Raises NiwakiError for a float bundle that does not compute what torch does.
    """
    found = parity(model, bundle, split=split)
    if must_pass and not found["passed"]:
        raise NiwakiError(
            f"the exported bundle's samples differ from torch's by {found['exact']:.2g}, more than "
            f"{found['tolerance']:.0g}; please report the model"
        )
    return {engine: by["exact"]["sample"] for engine, by in found["engines"].items()}

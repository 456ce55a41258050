"""A model that niwaki did not train, as a run: from there on it takes the way that every run takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from niwaki.compression import CompressConfig
from niwaki.core.contract import CallError, DataSpec, GenerativeModel, Runner
from niwaki.data import DataConfig, Dataset
from niwaki.evaluation.judges.reading import refuse_other_tokens
from niwaki.recipe import Recipe, apply_overrides, recipe_from
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.own_tokenizer import with_file, write_tokenizer
from niwaki.workflow.reporter import Reporter
from niwaki.workflow.run_context import RunContext
from niwaki.workflow.run_directory import RunDirectory, is_run

__all__ = ["check_samples_fit", "open_given"]


def open_given(
    model: GenerativeModel,
    context: EvaluationContext,
    out: str | Path,
    *,
    plan: CompressConfig | Sequence[Mapping[str, Any]] | None = None,
    evaluate: Mapping[str, Any] | None = None,
    export: Mapping[str, Any] | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
    reporter: Reporter,
) -> RunContext:
    """The run at `out` of a model that is given: its recipe has the sections that are left, and no training.

    context:   the data that the model answers to, and how it is judged
    plan:      steps of compression; None is that of `CompressConfig`, as in recipes that write none out
    evaluate, export: fields of those sections
    overrides: `compress.…`, `evaluate.…` and `export.…`
    Raises CallError where the samples are not of the data's shape, for other sections and wrong values, and
    where `out` is a run that trained a model of its own.
    """
    dataset = context.dataset
    check_samples_fit(model, dataset)
    values: dict[str, Any] = {
        "name": Path(out).name if Path(out).name not in ("", ".") else model.name,
        "seed": seed,
        "data": _data_section(context.data, dataset, Path(out)),
        "model": {"name": model.name, **model.config.model_dump(mode="json")},
        "train": None,
        "evaluate": {**context.config.model_dump(mode="json"), **(evaluate or {})},
        "compress": _plan(plan),
        "export": dict(export or {}),
    }
    recipe: Recipe = recipe_from(apply_overrides(values, overrides))
    _check_place(Path(out))
    run = RunDirectory.create(recipe, out)
    write_tokenizer(context.data, run.path)
    return RunContext(run, reporter, given=model, data=dataset)


def _check_place(out: Path) -> None:
    """Raises CallError for a run that trained its own model: another one would take its place."""
    if is_run(out) and RunDirectory.open(out).recipe.train is not None:
        raise CallError(f"{out} is a run with a model that it trained itself; choose another --out")


def _data_section(data: DataConfig | Dataset, dataset: Dataset, out: Path) -> dict[str, Any]:
    """How the recipe names the data; those in memory by their name and content."""
    if isinstance(data, DataConfig):
        return with_file(data.model_dump(mode="json"), out)
    return {"source": "memory", "name": dataset.name, "fingerprint": dataset.fingerprint}


def _plan(plan: CompressConfig | Sequence[Mapping[str, Any]] | None) -> dict[str, Any]:
    """The section of the recipe, which checks it; the usual steps written out, so that one can be changed."""
    if plan is None or isinstance(plan, CompressConfig):
        return (plan or CompressConfig()).model_dump(mode="json")
    return {"steps": [dict(step) if isinstance(step, Mapping) else step for step in plan]}


def check_samples_fit(model: Runner, dataset: Dataset) -> None:
    """Raises CallError where a model's samples are not of the data's shape, saying how to make them so."""
    refuse_other_tokens(model.files, dataset)
    made, wanted = model.program("sample").output, {c.spec.shape for c in dataset.test.columns.values()}
    if tuple(made.shape) in wanted:
        return
    spec: DataSpec = dataset.spec
    raise CallError(
        f"the model makes samples of shape {tuple(made.shape)}, the data '{dataset.name}' have "
        f"{tuple(spec.shape)}{_remedy(tuple(made.shape), spec)}"
    )


def _remedy(made: tuple[int, ...], spec: DataSpec) -> str:
    """What to set so that the data become what the model makes."""
    if spec.axes != "CHW" or len(made) != 3:
        return ""
    settings = []
    if made[0] != spec.shape[0]:
        settings.append(f"data.channels={made[0]}")
    if made[1:] != spec.shape[1:] and made[1] == made[2]:
        settings.append(f"data.size={made[1]}")
    return f"; set {' and '.join(settings)} (sources that can), or name other data" if settings else ""

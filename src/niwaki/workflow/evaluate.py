"""Evaluate: what a run's model, a bundle on its engine, or samples that any program made can do against the
test split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError, GenerativeModel
from niwaki.core.store import read_json, write_json
from niwaki.features import files_of
from niwaki.recipe import Recipe, load_recipe
from niwaki.training.hardware import choose_device
from niwaki.workflow.findings import fitness
from niwaki.workflow.judged import extractor_records, judged, judged_record
from niwaki.workflow.kept import read_samples, write_samples
from niwaki.workflow.margins import fix_margins, margins_file
from niwaki.workflow.own import evaluate_model
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.samples_of import Source, home, kind_of, sample_model, samples_of
from niwaki.workflow.session import Session, open_session
from niwaki.workflow.setting import Setting, as_overrides, setting_of

__all__ = [
    "evaluate",
    "evaluate_inputs",
    "evaluate_leg",
    "extractor_records",
    "judged",
    "read_samples",
    "write_samples",
]


def evaluate(
    what: str | Path | Recipe | GenerativeModel,
    overrides: Sequence[str] = (),
    *,
    data: Any = None,
    features: Sequence[str] | None = None,
    metrics: Sequence[str] | None = None,
    against: str | Path | None = None,
    resize: bool = False,
    recipe: str | Path | None = None,
    engine: str = "auto",
    reporter: Reporter | None = None,
    **own: Any,
) -> dict[str, Any]:
    """The evaluation of a run's trained model (kept in its `evaluation.json`), of a bundle on `engine`, of a
    folder of images, or of arrays (`.npz`, `.npy`).

    data:     what samples that belong to no run answer to: a source (`digits`, `folder:photos`), a recipe or
              a run (`recipe` is the same); a run is then judged by it too, and nothing is kept
    features: names of the extractors, metrics: of the metrics; default: the recipe's
    against:  something else of these kinds: both are judged, and compared as `compare` does, `against` being
              the side before
    resize:   bring images of another size to that of the data
    A model that belongs to no run is evaluated as `evaluate_model` says, which takes `own`: `n`, `seed` …
    Raises CallError for samples without data, of another shape or with NaN, an empty folder, unknown names;
    NiwakiError for a run without a trained model.
    """
    reporter = reporter or Quiet()
    if isinstance(what, GenerativeModel):
        if data is None:
            raise CallError("to evaluate a model, name the data that it answers to: data=…")
        own |= {key: names for key, names in (("features", features), ("metrics", metrics)) if names}
        return evaluate_model(what, data=data, reporter=reporter, **own)
    if own:
        raise TypeError(f"evaluate() got an unexpected argument '{next(iter(own))}'")
    changes = [*overrides, *as_overrides(features, metrics)]
    where = recipe if data is None else data
    if against is not None:
        from niwaki.workflow.compare import compare

        if isinstance(what, Recipe):
            raise CallError("a recipe is compared by its run: give the run's path")
        return compare(against, what, changes, data=where, resize=resize, engine=engine, reporter=reporter)
    kind = None if isinstance(what, Recipe) else kind_of(what)
    if isinstance(what, Recipe) or kind is None or (kind == "run" and where is None):
        if not isinstance(what, Recipe):
            _refuse(what, where, engine)
        session = open_session(what, changes, None, reporter)
        with session.run.hold():
            evaluate_leg(session)
        return dict(read_json(session.run.evaluation))
    setting = setting_for([what], where, changes, reporter)
    source = samples_of(what, setting, reporter, engine=engine, resize=resize)
    return judge_source(source, setting)


def setting_for(
    given: Sequence[str | Path], data: Any, overrides: Sequence[str], reporter: Reporter
) -> Setting:
    """What things are judged against: the data that are named, or else those of the runs they belong to.

    Raises CallError where there are none, and where they differ.
    """
    if data is not None:
        return setting_of(data, overrides, reporter)
    homes = [found for found in map(home, given) if found is not None]
    if not homes:
        name = f"{given[0]} belongs" if len(given) == 1 else f"{given[0]} and {given[1]} belong"
        raise CallError(
            f"{name} to no run; name the data with --data: a source (digits, folder:photos), a recipe, a run"
        )
    if len({load_recipe(path, overrides).data.model_dump_json() for path in homes}) > 1:
        raise CallError(
            f"{given[0]} and {given[1]} are of different data; name the one to judge by with --data"
        )
    return setting_of(homes[0], overrides, reporter)


def _refuse(what: str | Path, data: Any, engine: str) -> None:
    """What makes no sense for a recipe's run."""
    if Path(what).exists() and Path(what).is_file() and Path(what).suffix not in (".yaml", ".yml"):
        raise CallError(
            f"{what} holds no samples; give a run, a bundle, a folder of images, an .npz or an .npy"
        )
    if engine != "auto":
        raise CallError(f"{what} is no bundle, so it runs on no engine; leave the engine out")
    if data is not None:
        raise CallError(
            f"{what} does not exist"
            if not Path(what).exists()
            else f"{what} is a recipe, which names its own data; leave --data out"
        )


def judge_source(source: Source, setting: Setting) -> dict[str, Any]:
    """The record of samples that no run keeps, under what they are called: `trained`, `bundle`, `samples`."""
    setting.reporter.stage("evaluate", f"{len(source.x):,} samples of {source.path}")
    record = judged_record(
        source.x, source.labels, setting.dataset, setting.extractors,
        metrics=setting.evaluate.metrics, seed=setting.evaluate.seed, name=source.name,
        cache=setting.cache, reporter=setting.reporter,
    )  # fmt: skip
    return {**record, **({"engine": source.engine} if source.engine else {}), "source": source.to_json()}


def evaluate_inputs(session: Session) -> dict[str, Any]:
    """All that the evaluation depends on."""
    return {
        "model": session.run.result("train"),
        "data": session.fingerprint(),
        "evaluate": session.recipe.evaluate.model_dump(mode="json"),
        "seed": session.recipe.seed,
        **_looked_with(session.recipe.evaluate.features),
    }


def _looked_with(features: Sequence[str]) -> dict[str, Any]:
    """The files of features that are named by their place: an encoder that was trained again looks with other
    eyes."""
    found = {name: text for name in features if (text := files_of(name))}
    return {"features": found} if found else {}


def evaluate_leg(session: Session) -> bool:
    """Judge the trained model if that is not done yet. Returns whether there was work."""
    run = session.run
    inputs = evaluate_inputs(session)
    if run.holds("evaluate", inputs):
        return False
    model, dataset, extractors, n = session.model, session.dataset, session.extractors, session.pairs
    with run.working("evaluate", inputs, (run.evaluation, run.samples)) as record:
        session.reporter.stage("evaluate", f"{n:,} samples of the trained model")
        asked, labels = session.ask(model.conditions, n)
        model.to(choose_device(session.recipe.train.device))
        before = sample_model(model, n, session.seed, asked, session.reporter)
        model.cpu()
        write_samples(run.samples, before=before, labels=labels)
        evaluation, found = judged(
            before, labels, dataset, extractors,
            metrics=session.recipe.evaluate.metrics, seed=session.seed, name="trained",
        )  # fmt: skip
        fit = fitness(dataset, extractors, cache=session.cache, reporter=session.reporter)
        session.reporter.stage("margins", "what counts as a loss, before anything is compressed")
        margins = fix_margins(margins_file(run.path), before, dataset, extractors, seed=session.seed)
        write_json(
            run.evaluation,
            {
                "n": n,
                "seed": session.seed,
                "extractors": extractor_records(extractors),
                "fitness": fit,
                "margins": margins,
                "trained": evaluation,
                **found,
            },
        )
        record["result"] = record["inputs"]
    return True

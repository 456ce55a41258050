"""Train: from the recipe to the weights in `model/`."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from niwaki.core.contract import CallError, GenerativeModel
from niwaki.core.differences import differences
from niwaki.core.store import hash_bytes, hash_json, hash_tensors, read_tensors
from niwaki.data import Dataset
from niwaki.features import Encoder, build_encoder
from niwaki.features.encoders import registered_encoder
from niwaki.features.selfsupervised import probe_encoder
from niwaki.models.io import fill, model_record, save_model
from niwaki.models.registry import build, registered
from niwaki.recipe import Recipe
from niwaki.report.records import TrainingRecord
from niwaki.training import TrainConfig, fit, init_from_hashes
from niwaki.training.checkpoint import latest
from niwaki.training.identity import identity
from niwaki.training.resuming import joined
from niwaki.workflow.estimates import Expected, Timed
from niwaki.workflow.reporter import counter
from niwaki.workflow.run_context import RunContext, hash_directory
from niwaki.workflow.stages.stage import Stage
from niwaki.workflow.stages.standing import Way, way_of
from niwaki.workflow.tracked_samples import TrackedSamples
from niwaki.workflow.workers import workers

__all__ = [
    "TrainStage",
    "as_trained",
    "code_of",
    "content_of",
    "draws_otherwise",
    "fresh_model",
    "join_training",
    "tracked",
]

# These change where training runs, not what is learned.
_NO_MATTER = ("device", "devices")


class TrainStage(Stage):
    """From the recipe to the weights in `model/`; a model that was given is kept there as it is.

    Where nothing but `model.sampling` has changed, the weights stay and are only told how to draw.
    """

    name = "train"
    title = "training"

    def __init__(
        self,
        *,
        resume: bool | None = None,
        fresh: bool = False,
        on_validation: Callable[[int, dict[str, float]], None] | None = None,
    ) -> None:
        """resume: go on from the last checkpoint; None does so where nothing has changed
        fresh:  begin again, whatever is there
        on_validation: as of `fit`"""
        self.resume, self.fresh, self.on_validation = resume, fresh, on_validation
        self._keeps_weights, self._code = False, ""
        self._way: Way = "anew"

    def due(self, context: RunContext) -> bool:
        """As every stage; what has changed is asked before it is marked as started.

        Raises CallError where a training of something else, or a longer or a stopped one, stands there.
        """
        stage = context.run.stage(self.name)
        if context.recipe.train is None:
            if stage.get("made_from", {}).get("train"):
                raise CallError(f"{context.run.path} holds a training of its own; choose another --out")
            return not self.holds(context)
        self._keeps_weights = not self.fresh and draws_otherwise(context)
        self._code = stage.get("code", "")
        if self._keeps_weights:
            return True
        if not self.fresh and self.holds(context):
            return False
        self._way = way_of(
            context.run, context.recipe, self.inputs(context), resume=self.resume, fresh=self.fresh
        )
        return True

    def expected(self, context: RunContext, timed: Timed) -> Sequence[Expected]:
        config = context.recipe.train
        if config is None or self._keeps_weights:
            return ()
        seconds, left = timed.training(config), 1.0
        if self._way == "on":
            checkpoint, _ = latest(context.run.path / "checkpoints")
            left -= 0.0 if checkpoint is None else min(checkpoint.step / config.total_steps, 1.0)
        return (Expected(self.title, None if seconds is None else seconds * left),)

    def run(self, context: RunContext, *, again: bool = False) -> bool:
        if not self.due(context) and not again:
            return False
        return super().run(context, again=again or self.fresh)

    def inputs(self, context: RunContext) -> dict[str, Any]:
        recipe, given = context.recipe, context.given
        if recipe.train is None:
            record = context.run.stage(self.name).get("made_from", {})
            content = record.get("content") if given is None else content_of(given)
            return {"model": recipe.model, "content": content}
        data = recipe.data.model_dump(mode="json", exclude={"path"})
        sources = init_from_hashes(recipe.train)
        return {
            "seed": recipe.seed,
            "data": {**data, "content": context.fingerprint()},
            "model": recipe.model,
            "train": {k: v for k, v in identity(recipe.train).items() if k not in _NO_MATTER},
            **({"init_from": sources} if sources else {}),
        }

    def work(self, context: RunContext, state: dict[str, Any]) -> None:
        run, recipe = context.run, context.recipe
        if recipe.train is None:
            model: Any = context.model
            record = TrainingRecord(parameters=sum(p.numel() for p in model.parameters()), given=model.name)
        elif self._keeps_weights:
            context.reporter.note("only model.sampling changed: the weights stay as they are")
            model, record = self._kept(context)
        else:
            model, record = self._trained(context, recipe.train)
        save_model(model, run.model)
        record.write(run.path)
        state |= {"outputs": (run.model, run.path / record.file), "result": hash_directory(run.model)}
        if recipe.train is not None:
            state["code"] = self._code if self._keeps_weights else code_of(recipe)

    def _kept(self, context: RunContext) -> tuple[Any, TrainingRecord]:
        run, record = context.run, TrainingRecord.read(context.run.path)
        assert record is not None  # the stage was done
        model, file = fresh_model(context.recipe, context.dataset), run.model / "model.safetensors"
        fill(model, read_tensors(file), file)
        return model, record

    def _trained(self, context: RunContext, config: TrainConfig) -> tuple[Any, TrainingRecord]:
        run, recipe, dataset = context.run, context.recipe, context.dataset
        context.reporter.stage("train", f"{recipe.model['name']} on {dataset.name}")
        if self._way == "anew":
            shutil.rmtree(run.path / "checkpoints", ignore_errors=True)
            (run.path / "metrics.jsonl").unlink(missing_ok=True)
            context.following.forget()
        torch.manual_seed(recipe.seed)
        model = fresh_model(recipe, dataset)
        samples = TrackedSamples(context.following, dataset.train, recipe.seed)
        with workers(run.path, config.devices):
            result = fit(
                model,
                dataset.train,
                config,
                seed=recipe.seed,
                directory=run.path,
                resume=self._way == "on",
                progress=tracked(context),
                validation=dataset.validation,
                validate=samples,
                about={**_about(self.inputs(context)), "code": code_of(recipe)},
                note=context.reporter.note,
                on_validation=self.on_validation,
            )
        for note in result.notes:
            context.reporter.note(note)
        samples.draw(model)
        probe = None
        if isinstance(model, Encoder):
            context.reporter.stage("probe", "a linear classifier and 20 neighbours on its features")
            probe = probe_encoder(model, dataset)
        return model, TrainingRecord(
            steps=result.steps,
            parameters=sum(p.numel() for p in model.parameters()),
            training_seconds=result.seconds,
            samples_per_second=result.samples_per_second,
            last=result.last,
            best_step=result.best_step,
            best_loss=result.best_loss,
            probe=probe,
            longer=list(result.longer),
            looks=list(result.looks),
            told=list(result.told),
            health=list(result.health),
            chosen=list(result.chosen),
        )


def join_training(context: RunContext, ready: Callable[[], None]) -> None:
    """Train along with the process that works in the run directory, and write nothing (`workers`).

    ready: called when the data and the model are there, before the others are waited for
    """
    recipe, dataset = context.recipe, context.dataset
    assert recipe.train is not None
    torch.manual_seed(recipe.seed)
    model = fresh_model(recipe, dataset)
    about = {**_about(TrainStage().inputs(context)), "code": code_of(recipe)}
    ready()
    fit(
        model, dataset.train, recipe.train, seed=recipe.seed, directory=context.run.path, resume=True,
        validation=dataset.validation, about=about,
    )  # fmt: skip


def tracked(context: RunContext) -> Callable[..., None]:
    """Tells the reporter of every step, and the trackers of what has been written."""
    tell = counter(context.reporter)

    def call(done: int, total: int, info: Any = None) -> None:
        tell(done, total, info)
        context.following.look(always=done == total)

    return call


def _about(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the weights follow from beside the settings of the training."""
    return {key: value for key, value in inputs.items() if key not in ("seed", "train")}


def code_of(recipe: Recipe) -> str:
    """Hash of the file that the recipe's model is written in: weights do not tell that it has changed."""
    find = registered_encoder if recipe.encodes else registered
    return hash_bytes(Path(inspect.getfile(find(recipe.model["name"]))).read_bytes())


def content_of(model: GenerativeModel) -> str:
    """Hash of a model: how it is built, and its weights."""
    return hash_json([model_record(model), hash_tensors(model.state_dict())])


def fresh_model(recipe: Recipe, dataset: Dataset) -> GenerativeModel | Encoder:
    """What the recipe trains, as torch's random numbers make it."""
    made: GenerativeModel | Encoder
    make = build_encoder if recipe.encodes else build
    made = make(recipe.model["name"], recipe.model_settings, dataset.spec)
    if isinstance(made, GenerativeModel):
        made.shipped, made.files = recipe.export.programs, dataset.files
    return made


def as_trained(context: RunContext, *, free: Collection[str] = ()) -> None:
    """For verbs that do not train: the run's recipe is that of its weights, or differs by how they are
    sampled, which is then written into the model.

    free: what may be another one, for the verb has a use of its own for it
    Raises CallError that names what else differs: figures would be told of a model that nobody trained.
    """
    run, stage = context.run, TrainStage()
    if context.recipe.train is None or run.stage("train")["status"] != "done":
        return
    if draws_otherwise(context):
        stage.run(context)
        return
    other = differences(run.stage("train").get("made_from", {}), stage.inputs(context))
    if other := [one for one in other if one.key not in free]:
        raise CallError(
            f"the model in {run.path} was trained by another recipe, for {joined(other)}; change it back, or "
            "train again (niwaki train, which says what that gives up)"
        )


def draws_otherwise(context: RunContext) -> bool:
    """Whether a training is done, and its recipe differs by how the model is sampled alone."""
    run = context.run
    kept = run.model / "model.safetensors", run.path / TrainingRecord.file
    if run.stage("train")["status"] != "done" or not all(file.is_file() for file in kept):
        return False
    changed = run.changed("train", TrainStage().inputs(context))
    return bool(changed) and all(f"{name}.".startswith("model.sampling.") for name in changed)

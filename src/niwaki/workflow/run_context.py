"""What the stages of one call share: the run, and whatever was loaded for it already."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.core.store import hash_bytes, hash_directory, hash_json, jsonable
from niwaki.data import Dataset
from niwaki.data import load as load_data
from niwaki.data.reading.tokens import given_tokenizer
from niwaki.data.reading.walking import walk
from niwaki.models.io import load_model, not_sampled
from niwaki.recipe import Overrides, Recipe, check_data, load_recipe
from niwaki.report.records import DataRecord
from niwaki.tracking import Following
from niwaki.workflow.context import EvaluationContext
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.run_directory import RunDirectory, is_run, versions

__all__ = ["RunContext", "hash_directory", "open_run"]

_DECIDES_DATA = ("scikit-learn", "matplotlib", "numpy")  # what built-in sources are made from


def open_run(
    what: str | Path | Recipe | Mapping[str, Any],
    overrides: Overrides = (),
    out: str | Path | None = None,
    reporter: Reporter | None = None,
    *,
    encoders: bool = False,
) -> RunContext:
    """The context of a run directory, or of the run of a recipe (a file, a name, a mapping, or a `Recipe`).

    encoders: whether the verb has something to do with an encoder, which makes no samples
    Raises CallError where `what` is neither, or is about an encoder and the verb is not.
    """
    reporter = reporter or Quiet()
    if isinstance(what, str | Path) and is_run(what) and out is None:
        run = RunDirectory.open(what, overrides)
        _refuse_encoder(run.recipe, encoders)
        return RunContext(run, reporter)
    recipe = load_recipe(what, overrides)
    _refuse_encoder(recipe, encoders)
    return RunContext(RunDirectory.create(recipe, out), reporter)


def _refuse_encoder(recipe: Recipe, allowed: bool) -> None:
    if recipe.encodes and not allowed:
        raise not_sampled(recipe.model["name"])


class RunContext(EvaluationContext):
    """One call's view of a run. Everything heavy is loaded when it is first asked for.

    given: the model, where it is in memory and was not trained by the run
    data:  the data set, where it is in memory
    """

    def __init__(
        self,
        run: RunDirectory,
        reporter: Reporter,
        *,
        given: GenerativeModel | None = None,
        data: Dataset | None = None,
    ) -> None:
        recipe = run.recipe
        super().__init__(
            data or recipe.data, recipe.evaluate, seed=recipe.seed, cache=run.cache, reporter=reporter
        )
        self.run, self.recipe, self.given = run, recipe, given

    @cached_property
    def dataset(self) -> Dataset:
        """The recipe's data, checked against the model that it is for; findings are told."""
        if isinstance(self.data, Dataset):
            dataset = self.data  # what was found in it was told when it was read
            check_data(self.recipe, dataset.spec)
        else:
            self.reporter.stage("data", self.recipe.data.source)
            dataset = load_data(self.recipe.data)
            check_data(self.recipe, dataset.spec)
            self.told(dataset)
        record = DataRecord(
            signature=self._signature(),
            fingerprint=dataset.fingerprint,
            name=dataset.name,
            samples={name: len(split) for name, split in dataset.splits.items()},
            spec=dataset.spec.to_json(),
            audit=dataset.audit.to_json(),
        )
        self.run.when_adopted(lambda: record.write(self.run.path))
        return dataset

    def fingerprint(self) -> str:
        """Of the data's content. It is read again only where something that decides it has changed."""
        if isinstance(self.data, Dataset):
            return self.data.fingerprint
        known = DataRecord.read(self.run.path)
        if known is not None and known.fingerprint and known.signature == self._signature():
            return known.fingerprint
        return self.dataset.fingerprint

    def _signature(self) -> str:
        """What decides the data, cheap to look at: the config, the versions of its makers, and the files'
        stamps."""
        config = self.recipe.data.model_dump(mode="json")
        here = versions()
        stamps: list[Any] = _tokenizer_stamp(config.get("tokenizer"))
        place = config.get("path")
        if place:
            stamps += _stamps(Path(place))
        return hash_json([config, {k: here.get(k) for k in _DECIDES_DATA}, stamps])

    @cached_property
    def model(self) -> GenerativeModel:
        """The model of the run: trained, or given. Raises NiwakiError where there is none yet."""
        if self.given is not None:
            return self.given
        if not self.run.model.is_dir():
            raise NiwakiError(
                f"{self.run.path} holds no trained model yet; run `niwaki train {self.run.path}`"
            )
        model = load_model(self.run.model)
        model.shipped = self.recipe.export.programs or model.shipped
        return model

    @cached_property
    def following(self) -> Following:
        """The recipe's trackers."""
        return Following(
            self.run.path,
            self.recipe.name,
            jsonable(self.recipe),
            self.recipe.track,
            self.reporter.note,
        )

    @property
    def device(self) -> str:
        """Where the trained model samples, as the recipe says."""
        return "auto" if self.recipe.train is None else self.recipe.train.device


def _stamps(root: Path) -> list[Any]:
    """What tells that files were replaced: size and times of each, links followed. Raises NiwakiError where
    one cannot be looked at."""
    files = [root]
    if root.is_dir():
        try:
            files = [root / name for name in walk(root, ()).others]
        except OSError as error:
            raise NiwakiError(f"'data.path': {root} cannot be opened: {error.strerror or error}") from None
    found: list[Any] = []
    for file in files:
        try:
            stat = file.stat()
        except FileNotFoundError:
            if file == root:
                raise NiwakiError(f"'data.path': {file} does not exist") from None
            found.append([str(file), "missing"])  # a link to nothing
            continue
        except OSError as error:
            raise NiwakiError(f"'data.path': {file} cannot be read: {error.strerror or error}") from None
        # The time of change tells of a file that was put there with the times of the old one.
        found.append([str(file), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns])
    return found


def _tokenizer_stamp(tokenizer: Any) -> list[Any]:
    """The content of a tokenizer that is given by its path: it decides the data as their files do."""
    if not isinstance(tokenizer, str) or tokenizer.lstrip().startswith("{"):
        return []
    return [hash_bytes(given_tokenizer(tokenizer).encode())]

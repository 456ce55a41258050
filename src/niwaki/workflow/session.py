"""What the legs of one call share: the run, and whatever was loaded for it already (data, extractors,
models)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from niwaki.core.contract import GenerativeModel, NiwakiError
from niwaki.core.store import hash_directory, hash_json
from niwaki.data import Dataset
from niwaki.data import load as load_data
from niwaki.models.io import load_model, not_sampled
from niwaki.recipe import Recipe, check_data, load_recipe
from niwaki.workflow.judges import Asking, judges, tell_findings
from niwaki.workflow.reporter import Quiet, Reporter
from niwaki.workflow.rundir import RunDirectory, is_run, versions

__all__ = ["Session", "hash_directory", "open_session"]

_DECIDES_DATA = ("scikit-learn", "matplotlib", "numpy")  # what built-in sources are made from


def open_session(
    what: str | Path | Recipe,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    reporter: Reporter | None = None,
    *,
    encoders: bool = False,
) -> Session:
    """A session on a run directory, or on the run of a recipe (a file, a name, or a `Recipe`).

    encoders: whether the verb has something to do with an encoder, which makes no samples
    Raises CallError where `what` is neither, or is about an encoder and the verb is not.
    """
    reporter = reporter or Quiet()
    if not isinstance(what, Recipe) and is_run(what) and out is None:
        run = RunDirectory.open(what, tuple(overrides))
        _refuse_encoder(run.recipe, encoders)
        return Session(run, reporter)
    recipe = what if isinstance(what, Recipe) else load_recipe(what, overrides)
    _refuse_encoder(recipe, encoders)
    return Session(RunDirectory.create(recipe, out), reporter)


def _refuse_encoder(recipe: Recipe, allowed: bool) -> None:
    if recipe.encodes and not allowed:
        raise not_sampled(recipe.model["name"])


class Session(Asking):
    """One call's view of a run. Everything heavy is loaded when it is first asked for."""

    def __init__(self, run: RunDirectory, reporter: Reporter) -> None:
        self.run = run
        self.recipe = run.recipe
        self.reporter = reporter
        self.cache = run.cache

    @cached_property
    def dataset(self) -> Dataset:
        """The recipe's data, checked against the model that it is for; findings are told."""
        self.reporter.stage("data", self.recipe.data.source)
        dataset = load_data(self.recipe.data)
        check_data(self.recipe, dataset.spec)
        tell_findings(dataset, self.reporter)
        self.run.save(
            data={
                "signature": self._signature(),
                "fingerprint": dataset.fingerprint,
                "name": dataset.name,
                "samples": {s: len(getattr(dataset, s)) for s in ("train", "validation", "test")},
                "spec": dataset.spec.to_json(),
                "audit": dataset.audit.to_json(),
            }
        )
        return dataset

    def fingerprint(self) -> str:
        """Of the data's content. It is read again only where something that decides it has changed."""
        known = self.run.info.get("data", {})
        if known.get("fingerprint") and known.get("signature") == self._signature():
            return str(known["fingerprint"])
        return self.dataset.fingerprint

    def _signature(self) -> str:
        """What decides the data, cheap to look at: the config, the versions of its makers, and the files'
        stamps."""
        config = self.recipe.data.model_dump(mode="json")
        here = versions()
        stamps: list[Any] = []
        place = config.get("path")
        if place:
            root = Path(place)
            files = sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]
            for file in files:
                try:
                    stat = file.stat()
                except OSError as error:
                    raise NiwakiError(
                        f"'data.path': {file} cannot be read: {error.strerror or error}"
                    ) from None
                stamps.append([str(file), stat.st_size, stat.st_mtime_ns])
        return hash_json([config, {k: here.get(k) for k in _DECIDES_DATA}, stamps])

    @cached_property
    def extractors(self) -> list[Any]:
        """The networks that look at samples, from the run's cache where they were made before."""
        return judges(
            self.dataset,
            self.recipe.evaluate.features,
            seed=self.recipe.seed,
            cache=self.cache,
            reporter=self.reporter,
        )

    @cached_property
    def model(self) -> GenerativeModel:
        """The trained model. Raises NiwakiError where the run has none yet."""
        if not self.run.model.is_dir():
            raise NiwakiError(
                f"{self.run.path} holds no trained model yet; run `niwaki train {self.run.path}`"
            )
        return load_model(self.run.model)

    @property
    def seed(self) -> int:
        """Of the samples that are judged."""
        return self.recipe.evaluate.seed

    @property
    def pairs(self) -> int:
        """How many samples are judged: the config's n, or one for each of the test split."""
        return self.recipe.evaluate.n or len(self.dataset.test)

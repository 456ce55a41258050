"""What samples are judged against, and by what: the data, the features, the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from niwaki.core.contract import CallError, nearest
from niwaki.data import DataConfig, Dataset, cache_directory
from niwaki.data import load as load_data
from niwaki.data.config import source_names
from niwaki.evaluation import EvaluateConfig
from niwaki.recipe import Recipe, apply_overrides, find_recipe, load_recipe
from niwaki.recipe.sentences import sentence
from niwaki.workflow.judges import Asking, judges, tell_findings
from niwaki.workflow.reporter import Reporter
from niwaki.workflow.rundir import is_run

__all__ = ["Setting", "as_overrides", "of_recipe", "setting_of"]


class _Sections(BaseModel):
    """The sections of a recipe that samples without a model need."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataConfig
    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)


class Setting(Asking):
    """Data, extractors and the judgement's settings; loaded when first asked for.

    data, evaluate: as in a recipe
    seed:           of the extractors
    cache:          where they are kept
    """

    def __init__(
        self, data: DataConfig, evaluate: EvaluateConfig, seed: int, cache: Path, reporter: Reporter
    ) -> None:
        self.data = data
        self.evaluate = evaluate
        self.seed = seed
        self.cache = cache
        self.reporter = reporter

    @cached_property
    def dataset(self) -> Dataset:
        self.reporter.stage("data", self.data.source)
        dataset = load_data(self.data)
        tell_findings(dataset, self.reporter)
        return dataset

    @cached_property
    def extractors(self) -> list[Any]:
        return judges(
            self.dataset, self.evaluate.features, seed=self.seed, cache=self.cache, reporter=self.reporter
        )

    @property
    def n(self) -> int:
        """Samples that are made for a judgement."""
        return self.evaluate.n or len(self.dataset.test)


def as_overrides(features: Sequence[str] | None, metrics: Sequence[str] | None) -> list[str]:
    """`--features` and `--metrics` as what they are short for."""
    given = {"features": features, "metrics": metrics}
    return [f"evaluate.{key}=[{', '.join(map(str, names))}]" for key, names in given.items() if names]


def setting_of(where: str | Path, overrides: Sequence[str], reporter: Reporter) -> Setting:
    """From a run directory, a recipe (its file or name), a source (`digits`) or a source with its path
    (`folder:photos`).

    overrides: `data.…` and `evaluate.…`; a recipe's may be about anything
    Raises CallError where it is none of these, and for wrong overrides.
    """
    given = str(where)
    source, colon, path = given.partition(":")
    if given in source_names():
        return _of_source({"source": given}, overrides, reporter)
    if colon and source in source_names():
        return _of_source({"source": source, "path": path}, overrides, reporter)
    try:
        recipe = load_recipe(find_recipe(given), overrides)
    except CallError as error:
        if "/" in given or not str(error).startswith("there is no recipe"):
            raise
        raise CallError(
            f"'{given}' is neither a data source nor a recipe; {nearest(given, source_names())}"
        ) from None
    cache = Path(given) / "cache" if is_run(given) else cache_directory() / "features"
    return of_recipe(recipe, cache, reporter)


def of_recipe(recipe: Recipe, cache: Path, reporter: Reporter) -> Setting:
    return Setting(recipe.data, recipe.evaluate, recipe.seed, cache, reporter)


def _of_source(data: dict[str, Any], overrides: Sequence[str], reporter: Reporter) -> Setting:
    if data.get("path"):
        data["path"] = str(Path(data["path"]).expanduser().absolute())
    values = apply_overrides({"data": data}, overrides)
    try:
        found = _Sections.model_validate(values)
    except ValidationError as error:
        raise CallError(sentence(error, _Sections)) from None
    return Setting(found.data, found.evaluate, 0, cache_directory() / "features", reporter)

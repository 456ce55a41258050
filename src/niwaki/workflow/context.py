"""What every verb that judges needs: data, extractors, judges, seeds and caches, loaded when first asked
for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from niwaki.core.base_config import BaseConfig
from niwaki.core.contract import CallError, Runner, nearest
from niwaki.core.paths import expanded
from niwaki.core.sentences import sentence
from niwaki.data import DataConfig, Dataset
from niwaki.data import load as load_data
from niwaki.data.cache import feature_cache
from niwaki.data.config import source_names
from niwaki.evaluation import EvaluateConfig
from niwaki.evaluation.judges import Judge, Tools, judge_named, judges_for
from niwaki.recipe import Overrides, Recipe, apply_overrides, find_recipe, load_recipe
from niwaki.recipe.plain import plain
from niwaki.workflow.reporter import Quiet, Reporter, counter
from niwaki.workflow.run_directory import is_run

__all__ = ["EvaluationContext", "as_overrides", "context_for", "extractor_records"]


class EvaluationContext:
    """Data, extractors, judges and how many samples they are given.

    data:    which data; or a data set that is in memory
    config:  features, metrics, judges, n and seed of the evaluation
    seed:    of the extractors
    cache:   where costly things are kept; None keeps nothing
    """

    def __init__(
        self,
        data: DataConfig | Dataset,
        config: EvaluateConfig,
        *,
        seed: int = 0,
        cache: Path | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        self.data, self.config, self.seed, self.cache = data, config, seed, cache
        self.reporter = reporter or Quiet()

    @cached_property
    def dataset(self) -> Dataset:
        """The data; what their audit found is told."""
        if isinstance(self.data, Dataset):
            self.reporter.stage("data", self.data.name)
            return self.told(self.data)
        self.reporter.stage("data", self.data.source)
        return self.told(load_data(self.data))

    def told(self, dataset: Dataset) -> Dataset:
        """The same, once the reporter knows what the audit found, what was assumed and what was left out."""
        for finding in dataset.audit.said:
            self.reporter.note(f"data {finding.level}: {finding.text}")
        return dataset

    @cached_property
    def extractors(self) -> list[Any]:
        """The networks that look at samples, from the cache where they were made before; a classifier is left
        out where there are no labels."""
        from niwaki.features import build

        wanted, labelled = self.config.features, self.dataset.spec.classes > 1
        names = [name for name in wanted if name != "classifier" or labelled]
        self.reporter.stage("features", ", ".join(names))
        if len(names) < len(wanted):
            self.reporter.note("the data have no labels, so no classifier looks at the samples")
        made = build(
            names,
            self.dataset,
            cache=self.cache,
            seed=self.seed,
            progress=lambda name, done, total: self.reporter.update(done, total, {"": name}),
            announce=self._announce,
        )
        self.reporter.stage("metrics", "in these features")  # whoever asked for them goes on
        return made

    def _announce(self, name: str, steps: int, seconds: float) -> None:
        from niwaki.report.words import seconds_text  # its package is imported by verbs that draw

        takes = f"{steps:,} steps, about {seconds_text(seconds)}"
        kept = "" if self.cache is None else "; kept for later calls"
        self.reporter.note(f"'{name}' learns from the training split first: {takes}{kept}")

    @cached_property
    def tools(self) -> Tools:
        """What judges work with."""
        return Tools(
            lambda: self.extractors, self.config.metrics, self.cache, counter(self.reporter),
            announce=self._announce,
        )  # fmt: skip

    def judges(self, runner: Runner) -> list[Judge]:
        """Every judge that applies to a runner on these data, or those that the config names."""
        return judges_for(runner, self.dataset, self.tools, self.config.judges)

    def judge(self, name: str) -> Judge:
        """One judge by name, whatever it is asked about. Raises CallError for an unknown name."""
        return judge_named(name, self.tools)

    @property
    def n(self) -> int:
        """How many samples are judged: the config's n, or one for each of the test split."""
        return self.config.n or len(self.dataset.test)


def as_overrides(
    features: Sequence[str] | None,
    metrics: Sequence[str] | None,
    n: int | None = None,
    seed: int | None = None,
) -> list[str]:
    """`--features`, `--metrics`, `-n` and a seed as what they are short for."""
    lists = {"features": features, "metrics": metrics}
    numbers = {"n": n, "seed": seed}
    return [
        *(f"evaluate.{key}=[{', '.join(map(str, names))}]" for key, names in lists.items() if names),
        *(f"evaluate.{key}={value}" for key, value in numbers.items() if value is not None),
    ]


class _Evaluated(BaseConfig):
    """The section of a recipe that is left where model and data are in memory."""

    evaluate: EvaluateConfig = Field(default_factory=EvaluateConfig)


class _Sections(_Evaluated):
    """The sections of a recipe that samples without a model need."""

    data: DataConfig


Checked = TypeVar("Checked", bound=BaseConfig)


def context_for(
    where: Any, overrides: Overrides = (), *, reporter: Reporter | None = None, cache: Path | None = None
) -> EvaluationContext:
    """From a data set in memory, the settings of a source, a run directory, a recipe (its file, its name, a
    mapping), a source (`digits`), or a source with its path (`folder:photos`).

    overrides: `data.…` and `evaluate.…`; a recipe's may be about anything
    Raises CallError where it is none of these, and for wrong overrides.
    """
    cache = cache or feature_cache((reporter or Quiet()).note)
    if isinstance(where, Dataset):
        judged = apply_overrides({"evaluate": {}}, overrides)["evaluate"]
        found = _checked(_Evaluated, {"evaluate": judged})
        return EvaluationContext(where, found.evaluate, cache=cache, reporter=reporter)
    if isinstance(where, DataConfig):
        where = where.model_dump(mode="json")
    if isinstance(where, Recipe) or (isinstance(where, Mapping) and "data" in where):
        return _of_recipe(load_recipe(where, overrides), cache, reporter)
    if isinstance(where, Mapping):
        return _of_source(plain(where), overrides, cache, reporter)
    given = str(where)
    source, colon, path = given.partition(":")
    if given in source_names():
        return _of_source({"source": given}, overrides, cache, reporter)
    if colon and source in source_names():
        return _of_source({"source": source, "path": path}, overrides, cache, reporter)
    try:
        recipe = load_recipe(find_recipe(given), overrides)
    except CallError as error:
        if "/" in given or not str(error).startswith("there is no recipe"):
            raise
        raise CallError(
            f"'{given}' is neither a data source nor a recipe; {nearest(given, source_names())}"
        ) from None
    cache = Path(given) / "cache" if is_run(given) else cache
    return _of_recipe(recipe, cache, reporter)


def _of_recipe(recipe: Recipe, cache: Path | None, reporter: Reporter | None) -> EvaluationContext:
    return EvaluationContext(recipe.data, recipe.evaluate, seed=recipe.seed, cache=cache, reporter=reporter)


def _of_source(
    data: dict[str, Any], overrides: Overrides, cache: Path | None, reporter: Reporter | None
) -> EvaluationContext:
    if data.get("path"):
        data["path"] = str(expanded(data["path"]).absolute())
    values = apply_overrides({"data": data}, overrides)
    found = _checked(_Sections, values)
    return EvaluationContext(found.data, found.evaluate, cache=cache, reporter=reporter)


def _checked(kind: type[Checked], values: Mapping[str, Any]) -> Checked:
    """Raises CallError in one sentence."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise CallError(sentence(error, kind)) from None


def extractor_records(extractors: Sequence[Any]) -> list[dict[str, Any]]:
    """What looked at the samples: name, fingerprint, width, a classifier's accuracy, an encoder's probe."""
    records = []
    for e in extractors:
        record = {"name": e.name, "fingerprint": e.fingerprint, "dim": e.dim}
        records.append(record | {k: getattr(e, k) for k in ("accuracy", "probe") if hasattr(e, k)})
    return records

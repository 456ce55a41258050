"""A study on disk: what is searched, so that a later call, or another process, goes on with the same."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from niwaki.core.contract import CallError, NiwakiError
from niwaki.core.differences import differences
from niwaki.core.store import jsonable, read_json, write_json
from niwaki.recipe import Recipe, TuneConfig, load_recipe
from niwaki.workflow.run_directory import versions
from niwaki.workflow.tuning.space import Space
from niwaki.workflow.tuning.storage import make_pruner, open_storage
from niwaki.workflow.tuning.targets import Constraint, Target, parse_constraint

__all__ = ["Study", "is_study"]

_FILE, _VERSION = "study.json", 1
_MAY_CHANGE = ("trials",)
"""Settings of a study that a later call may give anew."""
_LOOKS = 10
"""Validations in a trial that may be ended by its held-out loss."""


def is_study(path: str | Path) -> bool:
    return (Path(path) / _FILE).is_file()


class Study:
    """What is searched, and where.

    recipe:     that is varied, without its section `tune`
    config:     of the search
    objectives: one or two
    bounded:    the targets of the constraints, by their name
    """

    def __init__(
        self,
        path: Path,
        recipe: Recipe,
        config: TuneConfig,
        objectives: tuple[Target, ...],
        bounded: tuple[Target, ...],
    ) -> None:
        self.path, self.recipe, self.config = path, recipe, config
        self.objectives, self.bounded = objectives, bounded
        self.space = Space(recipe, config)
        self.constraints: tuple[Constraint, ...] = tuple(map(parse_constraint, config.constraints))

    @property
    def targets(self) -> tuple[Target, ...]:
        """All that is read of a trial, each once."""
        return tuple({target.name: target for target in (*self.objectives, *self.bounded)}.values())

    @cached_property
    def optuna(self) -> Any:
        """Optuna's study in this directory."""
        directions = ["maximize" if t.better == "higher" else "minimize" for t in self.objectives]
        every, longest = self.validations
        return open_storage(self.path, directions, make_pruner(self.prunes_by, every, longest))

    # pruning

    @property
    def prunes_by(self) -> str:
        """The rule that goes by the held-out loss: `median`, `hyperband` or `none`."""
        if self.config.prune != "auto":
            return self.config.prune
        return "median" if [t.figure for t in self.objectives] == [""] else "none"

    @property
    def watches(self) -> bool:
        """Whether trials that collapse are ended."""
        train = self.recipe.train
        return self.config.prune != "none" and train is not None and train.watch is not None

    @property
    def validations(self) -> tuple[int, int]:
        """Steps between validations of a trial, and of the longest one."""
        train = self.recipe.train
        assert train is not None
        given = self.config.ranges.get("train.steps")
        ends = (getattr(given, "high", None), *(given if isinstance(given, tuple) else ()))
        longest = max([train.total_steps, *(int(end) for end in ends if end)])
        return train.validate_every or max(1, longest // _LOOKS), longest

    # places

    def trial(self, number: int) -> Path:
        return self.path / "trials" / f"{number:04d}"

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def best(self) -> Path:
        return self.path / "best.yaml"

    # on disk

    def to_json(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "recipe": jsonable(self.recipe),
            "tune": jsonable(self.config),
            "objectives": jsonable(self.objectives),
            "bounded": jsonable(self.bounded),
            "versions": versions(),
        }

    def write(self) -> None:
        write_json(self.path / _FILE, self.to_json())

    @classmethod
    def open(cls, path: str | Path, trials: int | None = None) -> Study:
        """The study of a directory. Raises NiwakiError where its record is broken."""
        path = Path(path)
        record = read_json(path / _FILE)
        if not isinstance(record, Mapping) or record.get("version", 0) > _VERSION:
            raise NiwakiError(f"{path / _FILE} is not the record of a study that this niwaki can read")
        config = TuneConfig.model_validate(record["tune"])
        if trials is not None:
            config = config.model_copy(update={"trials": trials})
        return cls(
            path,
            load_recipe(record["recipe"]),
            config,
            tuple(Target(**one) for one in record["objectives"]),
            tuple(Target(**one) for one in record["bounded"]),
        )

    def check_same(self, recipe: Recipe, config: TuneConfig) -> None:
        """Raises CallError where a call is about another study than the one that is here."""
        then = {"recipe": jsonable(self.recipe), "tune": jsonable(self.config)}
        now: dict[str, Any] = {"recipe": jsonable(recipe), "tune": jsonable(config)}
        for record in (then, now):
            for key in _MAY_CHANGE:
                record["tune"].pop(key, None)
        found = differences(then["recipe"], now["recipe"]) + differences(then["tune"], now["tune"], "tune")
        if found:
            raise CallError(f"{self.path} holds a study of something else: {found[0]}; choose another --out")
